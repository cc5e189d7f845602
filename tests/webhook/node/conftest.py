# SPDX-License-Identifier: Apache-2.0
"""Tests of this folder run on asyncio."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend():
    return "asyncio"
