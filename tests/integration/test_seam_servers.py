# SPDX-License-Identifier: Apache-2.0
"""The seam in servers that know nothing of it, and with callers that try to weaken it."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import pickle
import socket
import socketserver
import ssl
import threading

import aiohttp
import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter

from kubetls_sdk import StaticSource, TrustBundleSet
from kubetls_sdk._context import client_context, server_context
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.expectation import OneOf
from kubetls_sdk.spiffe_id_pattern import SpiffeIdPattern
from tests.integration.serving import GET, World, exchange, stock_context

ORDERS = "spiffe://example.org/ns/shop/sa/orders"


@pytest.fixture
def world():
    return World()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the peer of the connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = str(self.connection.verified_peer.spiffe_id).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class LineHandler(socketserver.StreamRequestHandler):
    """Answers one line."""

    def handle(self):
        with contextlib.suppress(OSError, ssl.SSLError):
            self.rfile.readline()
            self.wfile.write(str(self.request.verified_peer.spiffe_id).encode() + b"\n")


class QuietServer(http.server.ThreadingHTTPServer):
    """Does not print the errors of refused peers; they are asserted on the other side."""

    def handle_error(self, request, client_address):
        pass


class QuietTcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


@contextlib.contextmanager
def listening(world, server):
    """Wrap the listening socket once, as the documentation of ssl shows, and serve."""
    context = server_context(world.source)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def connect(port, context):
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    return context.wrap_socket(plain, server_hostname="localhost")


class TestHttpServer:
    def test_accept_takes_the_current_generation(self, world):
        """One wrapped listening socket serves each new connection with the current SVID."""
        with listening(world, QuietServer(("127.0.0.1", 0), Handler)) as port:
            serials = set()
            for _ in range(3):
                with connect(port, world.client()) as connection:
                    assert exchange(connection)[2] == b"spiffe://example.org/ns/shop/sa/web"
                    serials.add(connection.getpeercert(binary_form=True))
                world.source.replace(svid=world.ca.issue("/ns/shop/sa/orders"))
            assert len(serials) == 3

    def test_removed_root(self, world):
        """A root that is removed is removed from a socket that listens already."""
        with listening(world, QuietServer(("127.0.0.1", 0), Handler)) as port:
            with connect(port, world.client()) as connection:
                assert exchange(connection)[0] == 200
            world.distrust()
            with (
                connect(port, world.client()) as connection,
                pytest.raises((ConnectionError, ssl.SSLError)),
            ):
                exchange(connection)

    @pytest.mark.parametrize(
        "attacker",
        [
            pytest.param(lambda world: None, id="no-certificate"),
            pytest.param(
                lambda world: world.partner.issue_for("example.org", "/ns/shop/sa/web"),
                id="forged",
            ),
            pytest.param(lambda world: world.ca.issue_faulty("two_uris"), id="two-uris"),
        ],
    )
    def test_refused(self, world, attacker):
        """A refused peer gets no byte of a response, and the server serves on."""
        with listening(world, QuietServer(("127.0.0.1", 0), Handler)) as port:
            with (
                connect(port, stock_context(attacker(world), world.ca.bundle)) as connection,
                pytest.raises((ConnectionError, ssl.SSLError)),
            ):
                exchange(connection)
            with connect(port, world.client()) as connection:
                assert exchange(connection)[0] == 200


class TestSocketServer:
    def test_line(self, world):
        """`socketserver` with one wrapped listening socket knows its peers."""
        with (
            listening(world, QuietTcpServer(("127.0.0.1", 0), LineHandler)) as port,
            connect(port, world.client()) as connection,
        ):
            connection.sendall(b"who\n")
            assert connection.recv(1000) == b"spiffe://example.org/ns/shop/sa/web\n"

    def test_nothing_before_the_handshake(self, world):
        """A handler that reads before the handshake gets an error, not bytes."""
        left, right = socket.socketpair()
        with left, right:
            context = server_context(world.source)
            tls = context.wrap_socket(left, server_side=True, do_handshake_on_connect=False)
            with tls:
                right.sendall(GET)
                with pytest.raises(ssl.SSLError):
                    tls.recv(100)
                with pytest.raises(ssl.SSLError):
                    tls.send(b"secret")


class TestAsyncio:
    def test_start_server(self, world):
        """Asyncio's own server takes the context; the peer is on the transport."""

        async def answer(reader, writer):
            await reader.readline()
            peer = writer.get_extra_info("ssl_object").verified_peer
            writer.write(str(peer.spiffe_id).encode() + b"\n")
            await writer.drain()
            writer.close()

        async def main():
            server = await asyncio.start_server(
                answer, "127.0.0.1", 0, ssl=server_context(world.source)
            )
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=world.client(), server_hostname="any.name"
            )
            writer.write(b"who\n")
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()
            return line

        assert asyncio.run(main()) == b"spiffe://example.org/ns/shop/sa/web\n"


def wrong_peer(world):
    """A client that expects somebody else than the server is."""
    source = StaticSource(world.ca.issue("/ns/shop/sa/web"), TrustBundleSet([world.ca.bundle]))
    billing = SpiffeIdPattern.parse("spiffe://example.org/ns/shop/sa/billing")
    return client_context(source, expect=OneOf(frozenset({billing})))


class Adapter(HTTPAdapter):
    """Gives requests the context, as its documentation shows."""

    def __init__(self, context):
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args, **kwargs):
        kwargs["ssl_context"] = self._context
        return super().init_poolmanager(*args, **kwargs)


class TestClients:
    """Clients that know nothing of the seam, told to verify nothing, and a wrong server."""

    @pytest.fixture
    def port(self, world):
        with listening(world, QuietServer(("127.0.0.1", 0), Handler)) as port:
            yield port

    @pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
    @pytest.mark.parametrize("verify", [True, False])
    def test_requests(self, world, port, verify):
        """`verify=False` of requests changes nothing: the right server answers, a wrong one not."""
        url = f"https://localhost:{port}/"
        with requests.Session() as session:
            session.mount("https://", Adapter(world.client()))
            assert session.get(url, verify=verify, timeout=10).status_code == 200
        with requests.Session() as session:
            session.mount("https://", Adapter(wrong_peer(world)))
            with pytest.raises(requests.exceptions.SSLError):
                session.get(url, verify=verify, timeout=10)

    @pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"cert_reqs": "CERT_NONE"},
            {"cert_reqs": "CERT_NONE", "assert_hostname": False},
            {"ssl_minimum_version": ssl.TLSVersion.TLSv1_2},
        ],
        ids=repr,
    )
    def test_urllib3(self, world, port, options):
        """Whatever urllib3 is told to lower, a wrong server is refused."""
        url = f"https://localhost:{port}/"
        with urllib3.PoolManager(ssl_context=world.client(), **options) as pool:
            assert pool.request("GET", url, retries=False).status == 200
        with (
            urllib3.PoolManager(ssl_context=wrong_peer(world), **options) as pool,
            pytest.raises(urllib3.exceptions.SSLError),
        ):
            pool.request("GET", url, retries=False)

    def test_aiohttp(self, world, port):
        """Aiohttp takes the same object."""

        async def get(context):
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"https://localhost:{port}/", ssl=context) as response,
            ):
                return response.status

        assert asyncio.run(get(world.client())) == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            asyncio.run(get(wrong_peer(world)))


def add_roots(context, tmp_path):
    (tmp_path / "ca.pem").write_bytes(World().ca.bundle.to_pem())
    context.load_verify_locations(tmp_path / "ca.pem")


WEAKENINGS = [
    pytest.param(add_roots, id="load_verify_locations"),
    pytest.param(lambda c, _: c.load_default_certs(), id="load_default_certs"),
    pytest.param(lambda c, _: c.set_default_verify_paths(), id="set_default_verify_paths"),
    pytest.param(lambda c, _: setattr(c, "check_hostname", False), id="check_hostname"),
    pytest.param(lambda c, _: setattr(c, "verify_mode", ssl.CERT_NONE), id="verify_mode"),
    pytest.param(lambda c, _: setattr(c, "verify_flags", 0), id="verify_flags"),
    pytest.param(
        lambda c, _: setattr(c, "minimum_version", ssl.TLSVersion.TLSv1_2), id="minimum_version"
    ),
    pytest.param(
        lambda c, _: setattr(c, "maximum_version", ssl.TLSVersion.TLSv1_2), id="maximum_version"
    ),
    pytest.param(lambda c, _: setattr(c, "options", 0), id="options"),
    pytest.param(lambda c, _: setattr(c, "num_tickets", 2), id="num_tickets"),
    pytest.param(lambda c, _: c.load_cert_chain("x.pem"), id="load_cert_chain"),
    pytest.param(lambda c, _: c.set_ciphers("ALL:@SECLEVEL=0"), id="set_ciphers"),
    pytest.param(lambda c, _: c.set_servername_callback(print), id="servername_callback"),
    pytest.param(lambda c, _: setattr(c, "sni_callback", print), id="sni_callback"),
    pytest.param(lambda c, _: setattr(c, "sslobject_class", ssl.SSLObject), id="sslobject_class"),
    pytest.param(lambda c, _: setattr(c, "sslsocket_class", ssl.SSLSocket), id="sslsocket_class"),
    pytest.param(lambda c, _: setattr(c, "keylog_filename", "keys"), id="keylog_filename"),
    pytest.param(lambda c, _: pickle.dumps(c), id="pickle"),
]


class TestWeakening:
    @pytest.mark.parametrize("weaken", WEAKENINGS)
    def test_server(self, world, weaken, tmp_path):
        """Every attempt to weaken a server's context raises or changes nothing on the wire."""
        context = server_context(world.source)
        with contextlib.suppress(ConfigurationError, TypeError):
            weaken(context, tmp_path)
        stranger = World().ca.issue("/ns/shop/sa/web")
        for attacker in (None, stranger):
            refused, _ = handshake(context, stock_context(attacker, world.ca.bundle))
            assert isinstance(refused, ssl.SSLCertVerificationError)
        fine, version = handshake(context, world.client())
        assert (fine, version) == (None, "TLSv1.3")

    @pytest.mark.parametrize("weaken", WEAKENINGS)
    def test_client(self, world, weaken, tmp_path):
        """Every attempt to weaken a client's context raises or changes nothing on the wire."""
        context = wrong_peer(world)
        with contextlib.suppress(ConfigurationError, TypeError):
            weaken(context, tmp_path)
        refused, _ = handshake(server_context(world.source), context, judge="client")
        assert isinstance(refused, ssl.SSLCertVerificationError)

    def test_context_of_a_connection(self, world):
        """The context of a living connection cannot be exchanged for a weaker one."""
        tls = server_context(world.source).wrap_bio(
            ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True
        )
        with pytest.raises(ConfigurationError):
            tls.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def handshake(server, client, judge="server"):
    """Run a handshake in memory; return the error of one side, and the version."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = {
        "client": client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        "server": server.wrap_bio(to_server, to_client, server_side=True),
    }
    errors = {}
    for _ in range(6):
        for name, side in sides.items():
            if name not in errors:
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                except ssl.SSLError as err:
                    errors[name] = err
    return errors.get(judge), sides["server"].version()
