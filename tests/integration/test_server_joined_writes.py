# SPDX-License-Identifier: Apache-2.0
"""Responses on the wire: head and body in one TLS record, and everything else when it is due.

A client's `recv` returns the plaintext of one TLS record.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading

import pytest

from tests.integration.serving import World, read_to_end, receive_response, serve
from tests.waiting import until

SERVERS = [
    ("asyncio", "h11"),
    ("asyncio", "httptools"),
    ("uvloop", "httptools"),
    ("uvloop", "zttp"),
]


@pytest.fixture(scope="module")
def world():
    return World()


class Application:
    """One behaviour for each path; `go_on` is what the slow ones wait for."""

    def __init__(self):
        self.go_on = threading.Event()
        self.received = b""

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        await getattr(self, scope["path"].strip("/"))(receive, send)

    @staticmethod
    async def start(send, *headers, status=200):
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})

    @staticmethod
    async def body(send, body=b"", *, more=False):
        await send({"type": "http.response.body", "body": body, "more_body": more})

    async def wait(self):
        assert await asyncio.to_thread(self.go_on.wait, 10)

    async def small(self, receive, send):
        await self.start(send, (b"content-length", b"5"))
        await self.body(send, b"hello")

    async def nothing(self, receive, send):
        await self.start(send, status=204)
        await self.body(send)

    async def slow(self, receive, send):
        await self.start(send, (b"content-type", b"text/event-stream"))
        await self.wait()
        for number in range(3):
            await self.body(send, b"data: %d\n\n" % number, more=True)
        await self.body(send)

    async def big(self, receive, send):
        await self.start(send, (b"content-length", b"5000000"))
        for _ in range(50):
            await self.body(send, bytes(100_000), more=True)
        await self.body(send)

    async def upload(self, receive, send):
        while True:
            message = await receive()
            self.received += message["body"]
            if not message["more_body"]:
                break
        await self.small(receive, send)

    async def broken(self, receive, send):
        await self.start(send, (b"content-length", b"5"))
        raise RuntimeError("after the head")


@pytest.fixture
def app():
    return Application()


@pytest.fixture(params=SERVERS, ids="-".join)
def serving(request, world, app):
    loop, http = request.param
    with serve(world, app=app, http=http, options={"loop": loop}) as serving:
        yield serving


def ask(connection, path, method="GET", fields=""):
    connection.sendall(f"{method} {path} HTTP/1.1\r\nhost: orders\r\n{fields}\r\n".encode())


class TestResponse:
    def test_one_record(self, serving, world):
        """Head and body of a response come together, time after time."""
        connection = serving.connect(world.client())
        for _ in range(5):
            ask(connection, "/small")
            record = connection.recv(65536)
            assert record.startswith(b"HTTP/1.1 200")
            assert record.endswith(b"\r\n\r\nhello")

    @pytest.mark.parametrize(
        ("path", "method", "status"), [("/small", "HEAD", 200), ("/nothing", "GET", 204)]
    )
    def test_without_body(self, serving, world, path, method, status):
        """A response without a body is not kept back, and the connection goes on."""
        connection = serving.connect(world.client())
        for _ in range(3):
            ask(connection, path, method)
            head = connection.recv(65536)
            assert head.startswith(f"HTTP/1.1 {status} ".encode())
            assert head.endswith(b"\r\n\r\n")
        ask(connection, "/small")
        assert receive_response(connection)[2] == b"hello"

    def test_slow_body(self, serving, world, app):
        """The head of a stream comes before its first event, and each event when it is sent."""
        connection = serving.connect(world.client())
        ask(connection, "/slow")
        head = connection.recv(65536)
        assert head.startswith(b"HTTP/1.1 200")
        assert head.endswith(b"\r\n\r\n")
        app.go_on.set()
        body = b""
        while not body.endswith(b"0\r\n\r\n"):
            body += connection.recv(65536)
        assert body == b"".join(b"9\r\ndata: %d\n\n\r\n" % n for n in range(3)) + b"0\r\n\r\n"

    def test_pipelined(self, serving, world):
        """Requests that are sent together are answered in their order."""
        connection = serving.connect(world.client())
        connection.sendall(b"GET /small HTTP/1.1\r\nhost: orders\r\n\r\n" * 5)
        received = b""
        while received.count(b"hello") < 5:
            received += connection.recv(65536)
        assert received.count(b"HTTP/1.1 200") == 5

    def test_big_body(self, serving, world):
        """A body that the client reads slowly arrives whole, with writing paused in between."""
        connection = serving.connect(world.client())
        ask(connection, "/big")
        status, _, body = receive_response(connection)
        assert (status, len(body)) == (200, 5_000_000)
        assert hashlib.sha256(body).digest() == hashlib.sha256(bytes(5_000_000)).digest()

    def test_continue(self, serving, world, app):
        """`100 Continue` comes while the client waits with its body."""
        connection = serving.connect(world.client())
        ask(connection, "/upload", "POST", "content-length: 4\r\nexpect: 100-continue\r\n")
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"body")
        assert receive_response(connection)[2] == b"hello"
        assert app.received == b"body"


class TestEnd:
    def test_connection_close(self, serving, world):
        """The last response of a connection is complete."""
        connection = serving.connect(world.client())
        ask(connection, "/small", fields="connection: close\r\n")
        received = read_to_end(connection)
        assert received.startswith(b"HTTP/1.1 200")
        assert received.endswith(b"\r\n\r\nhello")

    def test_exception(self, serving, world):
        """An application that fails after its head: the head comes, then the end."""
        connection = serving.connect(world.client())
        ask(connection, "/broken")
        received = read_to_end(connection)
        assert received.startswith(b"HTTP/1.1 200")
        assert received.endswith(b"\r\n\r\n")

    def test_malformed(self, serving, world):
        """The answer to what is no HTTP comes before the end."""
        connection = serving.connect(world.client())
        connection.sendall(b"nonsense\r\n\r\n")
        assert read_to_end(connection).startswith(b"HTTP/1.1 400")

    def test_graceful_stop(self, serving, world, app):
        """A response under way when the server is asked to stop is finished."""
        connection = serving.connect(world.client())
        ask(connection, "/slow")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        serving.server.should_exit = True
        until(lambda: serving.server.servers == [] or not serving.server.servers[0].is_serving())
        app.go_on.set()
        assert read_to_end(connection).endswith(b"0\r\n\r\n")

    def test_client_leaves(self, serving, world, app):
        """A client that is gone before the body does no harm to others."""
        for _ in range(5):
            connection = serving.connect(world.client())
            ask(connection, "/slow")
            connection.close()
        other = serving.connect(world.client())
        ask(other, "/small")
        assert receive_response(other)[2] == b"hello"
        app.go_on.set()
