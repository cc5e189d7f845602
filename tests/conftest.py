# SPDX-License-Identifier: Apache-2.0
"""What holds for every test: none leaves metrics, audit log or tracing of the process enabled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kubetls_sdk import audit, metrics
from kubetls_sdk.server import tracing


@pytest.fixture(autouse=True)
def _recording_ends() -> Iterator[None]:
    """Disable what a test enabled, so that the next one starts as a new process does."""
    yield
    if metrics.is_enabled():
        metrics.disable()
    if audit.is_enabled():
        audit.disable()
    if tracing.is_enabled():
        tracing.disable()
