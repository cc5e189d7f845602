# SPDX-License-Identifier: Apache-2.0
"""Tests of this folder run on asyncio, against a server that is as rude as each test wants."""

from __future__ import annotations

import asyncio

import pytest

from tests.webhook.api.rude_server import RudeServer
from webhook.api import Api
from webhook.api.api_server import ApiServer
from webhook.api.credentials import Credentials


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def server(anyio_backend):
    async with RudeServer() as running:
        yield running


@pytest.fixture
async def api(server):
    """The client under test; when it is closed, no task of its own is left."""
    async with Api(Credentials(ApiServer(host=server.url))) as client:
        yield client
    left = [task.get_name() for task in asyncio.all_tasks() if "webhook" in repr(task.get_coro())]
    assert left == []
