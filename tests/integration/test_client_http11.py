# SPDX-License-Identifier: Apache-2.0
"""The async clients' own HTTP/1.1 transport: what the library's transport does, it does."""

from __future__ import annotations

import asyncio
import importlib
import socket
from contextlib import asynccontextmanager, suppress

import pytest

from kubetls_sdk._context import client_context, server_context
from kubetls_sdk.client import _http11_pool
from kubetls_sdk.client._http11_transport import Http11Transport, NotPlainError
from kubetls_sdk.expectation import expected_peer
from kubetls_sdk.testing import DevelopmentCA
from tests.integration.origin import BIG, Origin
from tests.waiting import eventually, until

CA = DevelopmentCA("example.org")
ORDERS = "spiffe://example.org/ns/shop/sa/orders"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SOON = 0.1


@pytest.fixture(params=["httpx", "httpx2"])
def library(request):
    return importlib.import_module(request.param)


@pytest.fixture
def context(kubetls_source):
    return client_context(kubetls_source(ca=CA), expect=expected_peer(ORDERS))


@pytest.fixture
def orders(kubetls_source):
    server = kubetls_source("/ns/shop/sa/orders", ca=CA, dns_names=["localhost"])
    with Origin.running(server_context(server)) as origin:
        yield origin


@pytest.fixture
def run(library, context):
    """Run `await story(client)` with a client over our transport."""

    def run(story, *, timeout=5.0, **limits):
        async def main():
            transport = Http11Transport(library, context, library.Limits(**limits))
            client = library.AsyncClient(transport=_Adapter(transport), timeout=timeout)
            try:
                return await story(client)
            finally:
                await client.aclose()

        return asyncio.run(main())

    return run


class _Adapter:
    """What a client expects of a transport beyond sending."""

    def __init__(self, transport):
        self.handle_async_request = transport.handle_async_request
        self.aclose = transport.aclose

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.aclose()


@pytest.fixture
def scripted(kubetls_source):
    """Serve with a coroutine `script(reader, writer)`, in the event loop of the test."""
    tls = server_context(kubetls_source("/ns/shop/sa/orders", ca=CA, dns_names=["localhost"]))

    @asynccontextmanager
    async def serve(script, tls=tls):
        tasks, writers = [], []

        async def connected(reader, writer):
            tasks.append(asyncio.current_task())
            writers.append(writer)
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await script(reader, writer)
            writer.transport.abort()

        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
        try:
            yield f"https://localhost:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for writer in writers:
                writer.transport.abort()
            await asyncio.gather(*tasks)

    return serve


def answering(*parts, keep_open=True):
    """A script that answers each request with bytes, a part at a time."""

    async def script(reader, writer):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            if not keep_open:
                return

    return script


class TestPlainRequests:
    @pytest.mark.parametrize(
        "request_",
        [
            pytest.param({"method": "CONNECT"}, id="connect"),
            pytest.param({"url": "wss://localhost/"}, id="web-socket"),
            pytest.param({"headers": {"Upgrade": "websocket"}}, id="upgrade"),
            pytest.param({"extensions": {"trace": print}}, id="trace"),
        ],
    )
    def test_others_are_left_to_the_library(self, run, library, orders, request_):
        """What needs more than a request and a response is refused before anything connects."""

        async def story(client):
            with pytest.raises(NotPlainError):
                await client.send(
                    library.Request(**{"method": "GET", "url": orders.url, **request_})
                )

        run(story)
        assert orders.connections == 0


class TestRequest:
    def test_headers_as_they_are(self, run, orders):
        """No header is added, dropped or folded."""

        async def story(client):
            request = client.build_request("GET", f"{orders.url}/x?a=%20b", headers={"X-A": "b"})
            await client.send(request)
            return {key.lower(): value for key, value in request.headers.items()}

        sent = run(story)
        assert orders.requests[0].path == "/x?a=%20b"
        assert {k: v for k, v in orders.requests[0].headers.items() if k != "user-agent"} == {
            k: v for k, v in sent.items() if k != "user-agent"
        }

    def test_body(self, run, orders):
        """A body in memory, a multipart one and a stream arrive whole."""

        async def parts():
            for part in (b"first", b"", b"second"):
                yield part

        async def story(client):
            got = [await client.post(f"{orders.url}/echo", content=BIG)]
            got.append(await client.post(f"{orders.url}/echo", content=parts()))
            got.append(await client.post(f"{orders.url}/echo", files={"a": b"file"}))
            got.append(await client.post(f"{orders.url}/echo", json={"a": 1}))
            return [response.content for response in got]

        whole, stream, multipart, json = run(story)
        assert whole == BIG
        assert stream == b"firstsecond"
        assert b"file" in multipart
        assert b'"a"' in json
        assert orders.connections == 1

    @pytest.mark.parametrize("length", [3, 5])
    def test_body_of_another_length(self, run, orders, library, length):
        """A stream that is not as long as its Content-Length is an error, and nothing is reused."""

        async def parts():
            yield b"four"

        async def story(client):
            with pytest.raises(library.LocalProtocolError, match="expected a body of"):
                await client.post(
                    orders.url, content=parts(), headers={"Content-Length": str(length)}
                )
            await client.get(orders.url)

        run(story)
        assert orders.connections == 2
        assert [request.method for request in orders.requests] == ["GET"]

    def test_injection(self, run, orders, library):
        """A line break in a header never reaches the wire."""

        async def story(client):
            with pytest.raises(library.LocalProtocolError):
                await client.get(orders.url, headers={"X": "a\r\nEvil: 1"})

        run(story)
        assert orders.connections == 0

    def test_body_that_fails(self, run, orders):
        """An error of the caller's own stream comes through, and the connection ends."""

        async def parts():
            yield b"one"
            raise LookupError("mine")

        async def story(client):
            with pytest.raises(LookupError, match="mine"):
                await client.post(orders.url, content=parts())
            await client.get(orders.url)

        run(story)
        assert orders.connections == 2


class TestResponse:
    def test_case_and_extensions(self, run, orders):
        """Headers keep their case; version, reason and the connection can be seen."""

        async def story(client):
            response = await client.get(orders.url)
            stream = response.extensions["network_stream"]
            tls = stream.get_extra_info("ssl_object")
            assert stream.get_extra_info("server_addr")[1] == orders.port
            assert tls.verified_peer is response.extensions["verified_peer"]
            return response

        response = run(story)
        assert (b"X-Case", b"Kept") in response.headers.raw
        assert response.http_version == "HTTP/1.1"
        assert response.reason_phrase == "OK"

    def test_large_body(self, run, orders):
        """A body larger than every buffer arrives whole, and its connection is used again."""

        async def story(client):
            for _ in range(3):
                assert (await client.get(f"{orders.url}/big")).content == BIG

        run(story)
        assert orders.connections == 1

    def test_head(self, run, orders):
        """The answer to HEAD has no body to wait for."""

        async def story(client):
            for _ in range(2):
                response = await client.head(orders.url)
                assert (response.status_code, response.content) == (200, b"")

        run(story)
        assert orders.connections == 1

    def test_compressed(self, run, scripted):
        """The library decompresses; the transport hands out what came."""
        import gzip

        body = gzip.compress(b"hello")
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"

        async def story(client):
            async with scripted(answering(head % len(body) + body)) as url:
                return (await client.get(url)).text

        assert run(story) == "hello"

    def test_until_the_connection_ends(self, run, scripted):
        """A body without a length ends with the goodbye of TLS."""
        answer = answering(b"HTTP/1.1 200 OK\r\n\r\n", b"ab", b"c", keep_open=False)

        async def script(reader, writer):
            await answer(reader, writer)
            writer.close()
            await writer.wait_closed()

        async def story(client):
            async with scripted(script) as url:
                return (await client.get(url)).content, (await client.get(url)).content

        assert run(story) == (b"abc", b"abc")

    def test_cut_on_the_way(self, run, scripted, library):
        """A body without a length that ends with TCP alone may have been cut by anybody: an error.

        Spec: RFC 9112 §9.8.
        """

        async def script(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\npay 100")
            await writer.drain()
            tcp = writer.get_extra_info("socket").dup()
            tcp.shutdown(socket.SHUT_WR)
            tcp.close()
            await reader.read()

        async def story(client):
            async with scripted(script) as url:
                with pytest.raises(library.RemoteProtocolError):
                    await client.get(url)

        run(story)

    @pytest.mark.parametrize(
        ("answer", "keep_open"),
        [
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", False, id="short"),
            pytest.param(b"NOT HTTP\r\n\r\n", True, id="garbage"),
            pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 300_000, True, id="endless-head"),
            pytest.param(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 9000, True, id="endless-hints"),
            pytest.param(CHUNKED + b"0\r\nX: " + b"a" * 900_000, True, id="endless-trailer"),
            pytest.param(CHUNKED + b"0\r\n" + b"X: y\r\n" * 99_000, True, id="endless-trailers"),
            pytest.param(CHUNKED + b"2;x=" + b"a" * 900_000, True, id="endless-extension"),
            pytest.param(b"HTTP/1.1 000 No\r\nContent-Length: 2\r\n\r\nno" + OK, True, id="000"),
            pytest.param(b"HTTP/1.1 101 Ok\r\n\r\n" + OK, True, id="unasked-switch"),
            pytest.param(
                OK.replace(b"\r\n\r\n", b"\r\nContent-Length: 4\r\n\r\n"), True, id="lengths"
            ),
            pytest.param(CHUNKED[:-2] + b"Content-Length: 2\r\n\r\n0\r\n\r\n", True, id="both"),
        ],
    )
    def test_broken(self, run, scripted, library, answer, keep_open):
        """A broken response is the library's protocol error."""

        async def story(client):
            async with scripted(answering(answer, keep_open=keep_open)) as url:
                with pytest.raises(library.RemoteProtocolError):
                    await client.get(url)

        run(story)

    def test_surplus(self, run, scripted):
        """A second response in the same packet is never taken for the answer to a later request."""
        stolen = OK.replace(b"ok", b"no")

        async def story(client):
            async with scripted(answering(OK + stolen)) as url:
                return [(await client.get(url)).text for _ in range(3)]

        assert run(story) == ["ok", "ok", "ok"]

    def test_data_on_an_idle_connection(self, run, scripted):
        """What arrives when nothing was asked ends the connection."""
        connections = []

        async def script(reader, writer):
            connections.append(writer)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
            await writer.drain()
            writer.write(OK.replace(b"ok", b"no"))
            await reader.read()

        async def story(client):
            async with scripted(script) as url:
                await client.get(url)
                await eventually(connections[0].is_closing)
                return (await client.get(url)).text

        assert run(story) == "ok"
        assert len(connections) == 2

    def test_answer_before_the_end_of_the_request(self, run, scripted):
        """A server that answers early is heard, and its connection is not used again."""
        answered = asyncio.Event()

        async def script(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            answered.set()
            await reader.read()

        async def endless():
            while True:
                yield b"x" * 1000
                if answered.is_set():
                    await asyncio.sleep(0.01)

        async def story(client):
            async with scripted(script) as url:
                return (await client.post(url, content=endless())).status_code

        assert run(story) == 413


class TestTimeouts:
    def test_read(self, run, orders, library):
        """No answer in time is a ReadTimeout, and the connection ends."""

        async def story(client):
            with pytest.raises(library.ReadTimeout):
                await client.get(f"{orders.url}/never", timeout=library.Timeout(5, read=SOON))
            await client.get(orders.url)

        run(story)
        assert orders.connections == 2

    def test_read_of_the_body(self, run, orders, library):
        """The same holds in the middle of a body."""

        async def story(client):
            with pytest.raises(library.ReadTimeout):
                await client.get(f"{orders.url}/stream", timeout=library.Timeout(5, read=SOON))

        run(story)

    def test_connect(self, run, scripted, library):
        """A handshake that does not end is a ConnectTimeout."""

        async def silent(reader, _writer):
            await reader.read()

        async def story(client):
            async with scripted(silent, tls=None) as url:
                with pytest.raises(library.ConnectTimeout):
                    await client.get(url, timeout=library.Timeout(5, connect=SOON))

        run(story)

    def test_write(self, run, scripted, library):
        """A server that takes nothing is a WriteTimeout."""
        heard = asyncio.Event()

        async def deaf(_reader, writer):
            writer.transport.pause_reading()
            await heard.wait()

        async def story(client):
            async with scripted(deaf) as url:
                with pytest.raises(library.WriteTimeout):
                    await client.post(url, content=BIG * 20, timeout=library.Timeout(5, write=SOON))
                heard.set()

        run(story)

    def test_pool(self, run, orders, library):
        """When all connections stay in use, waiting for one is a PoolTimeout."""

        async def story(client):
            slow = asyncio.create_task(client.get(f"{orders.url}/never", timeout=1))
            await eventually(lambda: orders.requests)
            with pytest.raises(library.PoolTimeout):
                await client.get(orders.url, timeout=library.Timeout(5, pool=SOON))
            slow.cancel()
            await asyncio.gather(slow, return_exceptions=True)
            assert (await client.get(orders.url)).text == "ok"

        run(story, max_connections=1)

    def test_nobody_listens(self, run, library):
        """A refused connection is a ConnectError."""

        async def story(client):
            with pytest.raises(library.ConnectError):
                await client.get("https://localhost:1")

        run(story)


class TestLimits:
    @pytest.mark.parametrize("limit", [1, 3])
    def test_connections(self, run, orders, limit):
        """There are never more connections than allowed; all requests are answered in the end."""

        async def story(client):
            responses = await asyncio.gather(*[client.get(orders.url) for _ in range(20)])
            return {response.text for response in responses}

        assert run(story, max_connections=limit) == {"ok"}
        assert orders.connections == limit

    def test_idle_connection_elsewhere_makes_room(self, run, orders, kubetls_source):
        """An idle connection to another server does not keep a request waiting."""
        server = kubetls_source("/ns/shop/sa/orders", ca=CA)

        async def story(client):
            with Origin.running(server_context(server)) as other:
                await client.get(orders.url)
                await client.get(other.url)
                await client.get(orders.url)

        run(story, max_connections=1)
        assert orders.connections == 2

    def test_kept_connections(self, run, orders):
        """Not more idle connections are kept than allowed."""

        async def story(client):
            await asyncio.gather(*[client.get(f"{orders.url}/big") for _ in range(4)])
            await eventually(lambda: not (orders.open > 1))

        run(story, max_keepalive_connections=1)

    def test_expiry(self, run, orders):
        """An idle connection closes by itself after its time."""

        async def story(client):
            await client.get(orders.url)
            assert orders.open == 1
            await eventually(lambda: not (orders.open))

        run(story, keepalive_expiry=SOON)

    def test_server_hangs_up(self, run, orders):
        """A connection that the server closed while it was idle is not used again."""

        async def story(client):
            assert (await client.get(f"{orders.url}/close")).text == "ok"
            await eventually(lambda: not (orders.open))
            assert (await client.get(orders.url)).text == "ok"

        run(story)

    def test_server_hangs_up_while_the_loop_is_busy(self, run, orders, monkeypatch):
        """The end of an idle connection is noticed even before the event loop can tell."""
        monkeypatch.setattr(_http11_pool, "_PROBE_AFTER_SECONDS", 0)

        async def story(client):
            for _ in range(5):
                assert (await client.get(f"{orders.url}/hangup")).text == "ok"
                until(lambda: orders.open == 0)  # blocks the loop

        run(story)
        assert orders.connections == 5


class TestCancellation:
    @pytest.mark.parametrize("path", ["never", "stream"])
    def test_request(self, run, orders, path):
        """A cancelled request closes its connection and gives its place to the next."""

        async def story(client):
            task = asyncio.create_task(client.get(f"{orders.url}/{path}"))
            await eventually(lambda: orders.requests)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await client.get(orders.url)).text == "ok"

        run(story, max_connections=1)
        assert orders.connections == 2

    def test_while_waiting_for_a_connection(self, run, orders):
        """A cancelled request that was next in the queue lets the one behind it go on."""

        async def story(client):
            first = asyncio.create_task(client.get(f"{orders.url}/never"))
            await eventually(lambda: orders.requests)
            second, third = (asyncio.create_task(client.get(orders.url)) for _ in range(2))
            await asyncio.sleep(0)
            first.cancel()
            second.cancel()
            assert (await third).text == "ok"
            await asyncio.gather(first, second, return_exceptions=True)

        run(story, max_connections=1)

    def test_stream_given_up(self, run, orders):
        """A response that is closed early gives its place to the next request."""

        async def story(client):
            async with client.stream("GET", f"{orders.url}/stream") as response:
                async for _ in response.aiter_raw():
                    break
            assert (await client.get(orders.url)).text == "ok"

        run(story, max_connections=1)


class TestUvloop:
    def test_answers(self, library, context, orders):
        """The same works on uvloop."""
        uvloop = pytest.importorskip("uvloop")

        async def main():
            transport = Http11Transport(library, context, library.Limits())
            async with library.AsyncClient(transport=_Adapter(transport)) as client:
                return [(await client.get(f"{orders.url}/big")).content == BIG for _ in range(3)]

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            assert runner.run(main()) == [True, True, True]
