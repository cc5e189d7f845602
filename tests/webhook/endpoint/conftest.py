# SPDX-License-Identifier: Apache-2.0
"""Tests of this folder run on asyncio, with an API server in memory and two zones."""

from __future__ import annotations

import pytest

from tests.webhook.endpoint.world import EndpointWorld


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def world():
    return EndpointWorld()
