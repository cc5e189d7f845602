# SPDX-License-Identifier: Apache-2.0
"""Our channels of both kinds through one synchronous face."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from kubetls_sdk.client.grpc import aio_secure_channel, secure_channel
from tests.integration.grpc_world import LoopThread

ORDERS = "spiffe://example.org/ns/shop/sa/orders"
WEB = "spiffe://example.org/ns/shop/sa/web"

both = pytest.mark.parametrize("kind", ["threaded", "async"])


class Blocking:
    """An asyncio channel whose calls block, as those of a threaded one."""

    def __init__(self, loop, channel):
        self.loop = loop
        self.channel = channel

    def unary_unary(self, method):
        async def call(request, seconds, metadata):
            return await self.channel.unary_unary(method)(
                request, timeout=seconds, metadata=metadata
            )

        return lambda request, timeout=10, metadata=None: self.loop.run(
            call(request, timeout, metadata)
        )

    def unary_stream(self, method):
        async def call(request, seconds):
            return [
                each async for each in self.channel.unary_stream(method)(request, timeout=seconds)
            ]

        return lambda request, timeout=10, metadata=None: self.loop.run(call(request, timeout))

    def stream_unary(self, method):
        async def call(requests, seconds):
            return await self.channel.stream_unary(method)(iter(requests), timeout=seconds)

        return lambda requests, timeout=10, metadata=None: self.loop.run(call(requests, timeout))

    def stream_stream(self, method):
        async def call(requests, seconds):
            running = self.channel.stream_stream(method)(iter(requests), timeout=seconds)
            return [each async for each in running]

        return lambda requests, timeout=10, metadata=None: self.loop.run(call(requests, timeout))


@contextmanager
def opened(kind, target, source, **options):
    """Open a channel of ours; its calls block."""
    options.setdefault("server_id", ORDERS)
    if kind == "threaded":
        with secure_channel(target, source, **options) as channel:
            yield channel
        return
    with LoopThread() as loop:

        async def make():
            return aio_secure_channel(target, source, **options)

        channel = loop.run(make())
        try:
            yield Blocking(loop, channel)
        finally:
            loop.run(channel.close())
