# SPDX-License-Identifier: Apache-2.0
"""hypercorn over mutual TLS: HTTP/1.1, HTTP/2 and WebSockets on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading

import httpx
import pytest
from hypercorn.config import Config
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_websocket

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.authorizer import AnyVerified
from kubetls_sdk.server.hypercorn import serve
from kubetls_sdk.server.mutual_tls import MutualTls
from tests.integration.serving import GET, World, exchange, read_to_end, stock_context
from tests.waiting import until


@pytest.fixture
def world():
    return World()


class Hypercorn:
    """A running hypercorn."""

    def __init__(self, port):
        self.port = port

    def connect(self, context):
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        return context.wrap_socket(plain, server_hostname="localhost")


@contextlib.contextmanager
def running(world, *, app=None, policy=None, root_path="", forwarded=None, **settings):
    """Run hypercorn in a thread until the test ends."""
    loop, stop, ports = asyncio.new_event_loop(), asyncio.Event(), []
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    config.root_path = root_path
    config.graceful_timeout = 0.2

    async def trigger():
        await stop.wait()

    create = Config._create_sockets

    def remember(self, *arguments, **options):
        sockets = create(self, *arguments, **options)
        ports.extend(s.getsockname()[1] for s in sockets)
        return sockets

    async def main():
        await serve(
            app or world.application,
            config,
            policy=policy or AnyVerified(),
            tls=MutualTls(source=world.source, **settings),
            forwarded=forwarded,
            shutdown_trigger=trigger,
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, "_create_sockets", remember)
        thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
        thread.start()
        try:
            until(lambda: ports and _accepts(ports[0]))
            yield Hypercorn(ports[0])
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(15)
            loop.close()


def _accepts(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


class TestServe:
    def test_http11(self, world):
        """The application knows the caller over HTTP/1.1, kept alive."""
        with running(world) as server, server.connect(world.client()) as connection:
            for _ in range(3):
                assert exchange(connection)[2] == b"spiffe://example.org/ns/shop/sa/web"
        assert world.application.scopes[0]["extensions"]["tls"]["tls_version"] == 0x0304

    def test_http2(self, world):
        """The application knows the caller over HTTP/2."""
        with (
            running(world) as server,
            httpx.Client(http1=False, http2=True, verify=world.client()) as client,
        ):
            for _ in range(3):
                response = client.get(f"https://localhost:{server.port}/")
                assert response.http_version == "HTTP/2"
                assert response.text == "spiffe://example.org/ns/shop/sa/web"

    def test_websocket(self, world):
        """WebSockets know their caller, and are closed with 1008 when its root is removed."""
        with (
            running(world, stream_recheck=1.0) as server,
            connect_websocket(f"wss://localhost:{server.port}/", ssl=world.client()) as socket,
        ):
            socket.send("hello")
            assert socket.recv(10) == "spiffe://example.org/ns/shop/sa/web hello"
            world.distrust()
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(10)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008

    @pytest.mark.parametrize(
        "attacker",
        [
            pytest.param(lambda world: None, id="no-certificate"),
            pytest.param(
                lambda world: world.partner.issue_for("example.org", "/ns/shop/sa/web"),
                id="forged",
            ),
        ],
    )
    def test_refused(self, world, attacker, caplog):
        """A refused peer reaches nothing, and the log says so."""
        with (
            running(world) as server,
            server.connect(stock_context(attacker(world), world.ca.bundle)) as connection,
        ):
            with pytest.raises((ConnectionError, ssl.SSLError)):
                exchange(connection)
            until(lambda: "refused handshake of a peer" in caplog.text)
        assert world.application.scopes == []

    def test_removed_root(self, world):
        """After its root was removed a living connection gets 401 and ends."""
        with (
            running(world, stream_recheck=60.0) as server,
            server.connect(world.client()) as connection,
        ):
            assert exchange(connection)[0] == 200
            world.distrust()
            status, headers, _ = exchange(connection)
            assert (status, headers["connection"]) == (401, "close")
            assert read_to_end(connection) == b""

    def test_stream(self, world):
        """A response that streams for ever ends within the bound."""
        with (
            running(world, stream_recheck=0.5) as server,
            server.connect(world.client()) as connection,
        ):
            connection.sendall(GET.replace(b" / ", b" /stream "))
            assert connection.recv(65536)
            world.distrust()
            assert b"tick" in read_to_end(connection)

    def test_deadline_of_handshakes(self, world):
        """A peer that stalls in its handshake is dropped."""
        with (
            running(world, handshake_timeout=0.3) as server,
            socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
        ):
            assert read_to_end(plain) == b""


class TestConfiguration:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("certfile", "a.pem"),
            ("ca_certs", "a.pem"),
            ("insecure_bind", ["127.0.0.1:1"]),
            ("quic_bind", ["127.0.0.1:1"]),
        ],
    )
    def test_contradictions(self, world, name, value):
        """Certificates, plain and QUIC addresses are refused: nothing is served beside TLS."""
        config = Config()
        setattr(config, name, value)
        with pytest.raises(ConfigurationError, match=name):
            asyncio.run(serve(world.application, config, policy=AnyVerified()))
