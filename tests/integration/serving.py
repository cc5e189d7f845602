# SPDX-License-Identifier: Apache-2.0
"""A uvicorn in a thread, the application that it serves, and a client as raw as it gets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from kubetls_sdk import StaticSource, TrustBundleSet
from kubetls_sdk._context import client_context
from kubetls_sdk.expectation import AnyTrusted
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.authorizer import AnyVerified
from kubetls_sdk.server.caller import caller
from kubetls_sdk.server.mutual_tls import MutualTls
from kubetls_sdk.testing import DevelopmentCA
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kubetls_sdk import X509Svid
    from kubetls_sdk.server._listener import Listener
    from kubetls_sdk.testing import IssuedChain

GET = b"GET / HTTP/1.1\r\nhost: orders\r\n\r\n"


class Application:
    """Answers with the caller; remembers what reached it.

    Attributes:
        scopes: Of every request and WebSocket.
        ended: Set when a stream or WebSocket of the application has ended.
    """

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.ended = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await self._echo(scope, receive, send)
        elif scope["path"] == "/stream":
            await self._stream(receive, send)
        else:
            await self._answer(scope, send)

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Any, send: Any) -> None:
        body = str(caller(scope)).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            for _ in range(10_000):
                await send({"type": "http.response.body", "body": b"tick\n", "more_body": True})
                await asyncio.sleep(0.01)
                with contextlib.suppress(TimeoutError):
                    message = await asyncio.wait_for(receive(), 0.01)
                    if message["type"] == "http.disconnect":
                        return
        finally:
            self.ended.set()

    async def _echo(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while (message := await receive())["type"] == "websocket.receive":
                text = f"{caller(scope)} {message['text']}"
                await send({"type": "websocket.send", "text": text})
        finally:
            self.ended.set()


class World:
    """A trust domain with a server's source and clients."""

    def __init__(self) -> None:
        self.ca = DevelopmentCA("example.org")
        self.partner = DevelopmentCA("partner.example")
        self.source = StaticSource(
            self.ca.issue("/ns/shop/sa/orders", dns_names=("localhost",)),
            TrustBundleSet([self.ca.bundle, self.partner.bundle]),
        )
        self.application = Application()

    def client(self, svid: X509Svid | None = None) -> ssl.SSLContext:
        """A client's context, by default of the workload `web`."""
        mine = svid if svid is not None else self.ca.issue("/ns/shop/sa/web")
        source = StaticSource(mine, TrustBundleSet([self.ca.bundle]))
        return client_context(source, expect=AnyTrusted())

    def distrust(self) -> None:
        """Remove all roots of the server's own trust domain."""
        self.source.replace(bundles=TrustBundleSet([self.partner.bundle]))


class Serving:
    """A running server."""

    def __init__(self, server: uvicorn.Server, port: int) -> None:
        self.server = server
        self.port = port
        self._sockets: list[socket.socket] = []

    @property
    def listener(self) -> Listener:
        """The running state behind `http=MutualTls(...)`."""
        return self.server.config.http.open()

    def keep(self, connection: socket.socket) -> None:
        """Do not close this one."""
        self._sockets.remove(connection)

    def close(self) -> None:
        """Close what `connect` opened: a peer that is gone lets the server end at once."""
        for connection in self._sockets:
            connection.close()

    def connect(
        self, context: ssl.SSLContext, timeout: float = 10.0, session: Any = None
    ) -> ssl.SSLSocket:
        """Open a TLS connection."""
        connection = context.wrap_socket(
            self.connect_plain(timeout), server_hostname="localhost", session=session
        )
        self._sockets.append(connection)
        return connection

    def connect_plain(self, timeout: float = 10.0) -> socket.socket:
        """Open a TCP connection."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        self._sockets.append(plain)
        return plain


@contextlib.contextmanager
def serve(
    world: World,
    *,
    policy: Any = None,
    app: Callable[..., Any] | None = None,
    middleware: dict[str, Any] | None = None,
    wrap: Callable[[Any], Any] | None = None,
    options: dict[str, Any] | None = None,
    **settings: Any,
) -> Iterator[Serving]:
    """Run uvicorn with `http=MutualTls(...)` in a thread of its own."""
    tls = MutualTls(source=world.source, **settings)
    protected = KubeTLSMiddleware(
        app if app is not None else world.application,
        policy=policy if policy is not None else AnyVerified(),
        **(middleware or {}),
    )
    config = uvicorn.Config(
        protected if wrap is None else wrap(protected),
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
        **{"http": tls, **(options or {})},
    )
    with run_in_thread(config) as serving:
        yield serving
    tls.close()


@contextlib.contextmanager
def run_in_thread(config: uvicorn.Config) -> Iterator[Serving]:
    """Run any uvicorn configuration on a free port."""
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        serving = Serving(server, listening.getsockname()[1])
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive())
            yield serving
        finally:
            serving.close()
            server.should_exit = True
            thread.join(15)
            assert not thread.is_alive(), "the server did not end"


def stock_context(
    chain: IssuedChain | X509Svid | None, roots: Any, *, alpn: tuple[str, ...] = ()
) -> ssl.SSLContext:
    """An ordinary client context of the ssl module, as an attacker would have it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=roots.to_pem().decode() if roots is not None else None)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if chain is not None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "client.pem"
            path.write_bytes(chain.certificates_pem() + chain.private_key_pem())
            context.load_cert_chain(path)
    return context


def receive_response(connection: ssl.SSLSocket) -> tuple[int, dict[str, str], bytes]:
    """Read one response with a length: status, headers, body."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionResetError("no response")
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
    if headers.get("transfer-encoding") == "chunked":
        return int(lines[0].split(" ")[1]), headers, _receive_chunks(connection, body)
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65536)
    return int(lines[0].split(" ")[1]), headers, body


def _receive_chunks(connection: ssl.SSLSocket, data: bytes) -> bytes:
    while not data.endswith(b"0\r\n\r\n"):
        data += connection.recv(65536)
    body = b""
    while True:
        size, _, rest = data.partition(b"\r\n")
        if int(size, 16) == 0:
            return body
        body += rest[: int(size, 16)]
        data = rest[int(size, 16) + 2 :]


def exchange(connection: ssl.SSLSocket, request: bytes = GET) -> tuple[int, dict[str, str], bytes]:
    """Send a request and read its response."""
    connection.sendall(request)
    return receive_response(connection)


def read_to_end(connection: socket.socket) -> bytes:
    """Read until the other end is gone, however it goes."""
    data = b""
    with contextlib.suppress(OSError):
        while chunk := connection.recv(65536):
            data += chunk
    return data
