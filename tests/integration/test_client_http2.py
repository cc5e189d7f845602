# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 and WebSockets: the library's own transport inside our clients, with the same promises."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib
from contextlib import asynccontextmanager, suppress

import h2.config
import h2.connection
import h2.events
import httpx2
import pytest

from kubetls_sdk import PeerUnauthorizedError
from kubetls_sdk._context import server_context
from kubetls_sdk.client.httpx2 import AsyncClient
from kubetls_sdk.testing import DevelopmentCA
from tests.waiting import eventually

CA = DevelopmentCA("example.org")
ORDERS = "spiffe://example.org/ns/shop/sa/orders"
BILLING = "spiffe://example.org/ns/shop/sa/billing"
WEB = "/ns/shop/sa/web"


@pytest.fixture(params=["httpx", "httpx2"])
def clients(request):
    return importlib.import_module(f"kubetls_sdk.client.{request.param}")


@pytest.fixture
def source(kubetls_source):
    return kubetls_source(WEB, ca=CA)


@pytest.fixture
def orders(kubetls_source):
    return kubetls_source("/ns/shop/sa/orders", ca=CA, dns_names=["localhost"])


@asynccontextmanager
async def serving(source, connected, protocol):
    """Serve in the running event loop."""
    context = server_context(source, alpn_protocols=[protocol])
    tasks, writers = [], []

    async def accepted(reader, writer):
        tasks.append(asyncio.current_task())
        writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await connected(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=context)
    try:
        yield f"localhost:{server.sockets[0].getsockname()[1]}", writers
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*tasks)


async def http2(reader, writer):
    """Answer every HTTP/2 request with `ok`."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    connection.initiate_connection()
    writer.write(connection.data_to_send())
    while received := await reader.read(65536):
        for event in connection.receive_data(received):
            if isinstance(event, h2.events.RequestReceived):
                connection.send_headers(event.stream_id, [(":status", "200")])
                connection.send_data(event.stream_id, b"ok", end_stream=True)
        writer.write(connection.data_to_send())


class TestHttp2:
    def test_rotation(self, clients, source, orders):
        """Requests share one connection until a rotation, and then one of the new generation."""

        async def main():
            async with (
                serving(orders, http2, "h2") as (place, writers),
                clients.AsyncClient(server=ORDERS, source=source, http2=True) as client,
            ):
                for number in range(2):
                    calls = [client.get(f"https://{place}/") for _ in range(8)]
                    responses = await asyncio.gather(*calls)
                    assert {r.http_version for r in responses} == {"HTTP/2"}
                    assert {r.text for r in responses} == {"ok"}
                    assert {str(r.extensions["verified_peer"].spiffe_id) for r in responses} == {
                        ORDERS
                    }
                    if number == 0:
                        source.replace(svid=CA.issue(WEB))
                        await eventually(lambda: all(w.is_closing() for w in writers))
                return len(writers)

        assert asyncio.run(main()) <= 4

    def test_wrong_server(self, clients, source, orders):
        """Another workload is refused over HTTP/2 as well."""
        library = importlib.import_module(clients.__name__.rpartition(".")[2])

        async def main():
            async with (
                serving(orders, http2, "h2") as (place, _),
                clients.AsyncClient(server=BILLING, source=source, http2=True) as client,
            ):
                with pytest.raises(library.ConnectError) as caught:
                    await client.get(f"https://{place}/")
                return caught.value.__cause__

        assert isinstance(asyncio.run(main()), PeerUnauthorizedError)


def accepting(heads):
    """A server that accepts a WebSocket and sends one text message."""

    async def web_socket(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heads.append(head)
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        key = {k.lower(): v for k, v in fields.items()}["sec-websocket-key"]
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()  # noqa: S324 - RFC 6455 §4.2.2
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % base64.b64encode(digest)
        )
        writer.write(b"\x81\x05hello")
        await reader.read()

    return web_socket


class TestWebSocket:
    def test_right_server(self, source, orders):
        """A WebSocket is opened to the expected server, and outlives a rotation."""
        heads = []

        async def main():
            async with (
                serving(orders, accepting(heads), "http/1.1") as (place, _),
                AsyncClient(server=ORDERS, source=source) as client,
                client.websocket(f"wss://{place}/") as socket,
            ):
                source.replace(svid=CA.issue(WEB))
                return await socket.receive_text()

        assert asyncio.run(main()) == "hello"
        assert len(heads) == 1

    def test_wrong_server(self, source, orders):
        """A WebSocket to another workload is refused."""
        heads = []

        async def main():
            async with (
                serving(orders, accepting(heads), "http/1.1") as (place, _),
                AsyncClient(server=BILLING, source=source) as client,
            ):
                with pytest.raises(httpx2.ConnectError) as caught:
                    async with client.websocket(f"wss://{place}/"):
                        pass
                return caught.value.__cause__

        assert isinstance(asyncio.run(main()), PeerUnauthorizedError)
        assert heads == []

    def test_without_tls(self, source):
        """A WebSocket without TLS is refused before connecting."""

        async def main():
            async with AsyncClient(server=ORDERS, source=source) as client:
                with pytest.raises(httpx2.UnsupportedProtocol):
                    async with client.websocket("ws://localhost:1/"):
                        pass

        asyncio.run(main())
