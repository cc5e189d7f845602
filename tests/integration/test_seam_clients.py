# SPDX-License-Identifier: Apache-2.0
"""One client context of the seam in other people's clients, and one server context in theirs."""

from __future__ import annotations

import asyncio
import http.client
import http.server
import socket
import ssl
import threading
import urllib.request
from contextlib import contextmanager

import aiohttp
import httpx
import httpx2
import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter

from kubetls_sdk import PeerError
from kubetls_sdk._context import client_context, server_context
from kubetls_sdk.expectation import expected_peer
from kubetls_sdk.testing import DevelopmentCA
from tests.integration.origin import Origin, stock_server_context
from tests.waiting import until

CA = DevelopmentCA("example.org")
STRANGER = DevelopmentCA("example.org")
ORDERS = "spiffe://example.org/ns/shop/sa/orders"
BILLING = "/ns/shop/sa/billing"


@pytest.fixture
def source(kubetls_source):
    return kubetls_source("/ns/shop/sa/web", ca=CA)


@pytest.fixture
def context(source):
    return client_context(source, expect=expected_peer(ORDERS))


@pytest.fixture
def orders_source(kubetls_source):
    return kubetls_source("/ns/shop/sa/orders", ca=CA, dns_names=["localhost"])


class _Adapter(HTTPAdapter):
    """How people give requests a context of their own."""

    def __init__(self, context):
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args, **options):
        super().init_poolmanager(*args, ssl_context=self._context, assert_hostname=False, **options)


def with_requests(context, url, verify):
    with requests.Session() as session:
        session.mount("https://", _Adapter(context))
        return session.get(url, verify=verify, timeout=5).text


def with_urllib3(context, url, verify):
    requirement = "CERT_REQUIRED" if verify else "CERT_NONE"
    with urllib3.PoolManager(
        ssl_context=context, assert_hostname=False, cert_reqs=requirement, retries=False
    ) as pool:
        return pool.request("GET", url).data.decode()


def with_httpx(context, url, _verify):
    with httpx.Client(verify=context) as client:
        return client.get(url).text


def with_httpx2(context, url, _verify):
    async def call():
        async with httpx2.AsyncClient(verify=context) as client:
            return (await client.get(url)).text

    return asyncio.run(call())


def with_aiohttp(context, url, _verify):
    async def call():
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as got:
            return await got.text()

    return asyncio.run(call())


def with_asyncio(context, url, _verify):
    async def call():
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        writer.write(b"GET / HTTP/1.1\r\nhost: orders\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(2)
        writer.transport.abort()
        return body.decode()

    return asyncio.run(call())


def with_http_client(context, url, _verify):
    connection = http.client.HTTPSConnection(url.removeprefix("https://"), context=context)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def with_urllib(context, url, _verify):
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    with opener.open(url, timeout=5) as response:
        return response.read().decode()


CLIENTS = [
    pytest.param(call, id=call.__name__.removeprefix("with_"))
    for call in (
        with_requests,
        with_urllib3,
        with_httpx,
        with_httpx2,
        with_aiohttp,
        with_asyncio,
        with_http_client,
        with_urllib,
    )
]


@pytest.mark.parametrize("call", CLIENTS)
@pytest.mark.parametrize("verify", [True, False])
class TestClients:
    def test_right_server(self, call, verify, context, orders_source):
        """The expected server answers."""
        with Origin.running(server_context(orders_source)) as origin:
            assert call(context, origin.url, verify) == "ok"

    @pytest.mark.parametrize(
        "chain",
        [
            pytest.param(lambda: CA.issue(BILLING, dns_names=["localhost"]), id="other-workload"),
            pytest.param(
                lambda: STRANGER.issue("/ns/shop/sa/orders", dns_names=["localhost"]),
                id="wrong-authority",
            ),
        ],
    )
    def test_wrong_server(self, call, verify, context, chain):
        """A wrong one gets no request, whatever the library was told about verification."""
        with Origin.running(stock_server_context(chain())) as origin:
            with pytest.raises(Exception) as caught:  # noqa: PT011 - each library has its own
                call(context, origin.url, verify)
            assert _mentions_peer_error(caught.value)
            assert origin.requests == []

    def test_next_connection_has_the_new_identity(
        self, call, verify, context, source, orders_source
    ):
        """The same context object presents the SVID of the moment."""
        seen = []
        with Origin.running(server_context(orders_source)) as origin:
            origin._ok = _answer_with_leaf(origin, seen)
            call(context, origin.url, verify)
            source.replace(svid=CA.issue("/ns/shop/sa/web"))
            call(context, origin.url, verify)
        assert seen[1] == source.snapshot.svid.leaf
        assert seen[0] != seen[1]


class TestHttpServer:
    @pytest.fixture
    def served(self, orders_source):
        """The standard library's own server: accept reuses the listening socket's context."""

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                peer = self.connection.verified_peer
                body = str(peer.spiffe_id).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                pass

        with _serving(Server, Handler, server_context(orders_source)) as port:
            yield f"https://localhost:{port}"

    def test_names_the_caller(self, served, context):
        """A handler sees who calls."""
        assert with_http_client(context, served, True) == "spiffe://example.org/ns/shop/sa/web"

    def test_accepts_take_the_current_generation(self, served, context, orders_source):
        """What was accepted after a rotation presents the new SVID: nothing is frozen."""
        leaves = [_server_leaf(context, served)]
        orders_source.replace(svid=CA.issue("/ns/shop/sa/orders"))
        leaves.append(_server_leaf(context, served))
        assert leaves[0] != leaves[1]
        assert leaves[1] == orders_source.snapshot.svid.leaf

    def test_refuses(self, served, kubetls_source):
        """A stranger is refused and the server goes on."""
        stranger = kubetls_source("/ns/shop/sa/web", ca=STRANGER)
        stranger.replace(bundles=kubetls_source(ca=CA).snapshot.bundles)
        context = client_context(stranger, expect=expected_peer(ORDERS))
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            with_http_client(context, served, True)
        good = client_context(kubetls_source("/ns/x", ca=CA), expect=expected_peer(ORDERS))
        assert with_http_client(good, served, True) == "spiffe://example.org/ns/x"


class TestSockets:
    def test_no_data_before_the_handshake(self, context, orders_source):
        """A socket whose handshake was put off takes and gives no data before it."""
        with Origin.running(server_context(orders_source)) as origin:
            raw = socket.create_connection(("localhost", origin.port))
            with context.wrap_socket(raw, do_handshake_on_connect=False) as tls:
                for call in (
                    lambda: tls.send(b"x"),
                    lambda: tls.sendall(b"x"),
                    lambda: tls.write(b"x"),
                    lambda: tls.recv(1),
                    lambda: tls.recv_into(bytearray(1)),
                    lambda: tls.read(1),
                ):
                    with pytest.raises(PeerError, match="before the handshake"):
                        call()
                tls.do_handshake()
                tls.sendall(b"GET / HTTP/1.1\r\nhost: orders\r\n\r\n")
                assert tls.recv(12) == b"HTTP/1.1 200"
                assert str(tls.verified_peer.spiffe_id) == ORDERS
            until(lambda: origin.open == 0)

    def test_session_forced_on_a_socket(self, context):
        """A session of an earlier connection that is forced on a socket is refused."""
        server = stock_server_context(CA.issue("/ns/shop/sa/orders"), roots=CA.bundle.to_pem())
        with Origin.running(server) as origin:
            with context.wrap_socket(socket.create_connection(("localhost", origin.port))) as tls:
                tls.sendall(b"GET / HTTP/1.1\r\nhost: orders\r\n\r\n")
                tls.recv(100)
                session = tls.session
            assert session.has_ticket
            raw = socket.create_connection(("localhost", origin.port))
            with context.wrap_socket(raw, do_handshake_on_connect=False) as tls:
                with pytest.raises((PeerError, ValueError)):
                    _force(tls, session)
                assert tls.verified_peer is None


def _force(tls, session):
    tls.session = session
    tls.do_handshake()


@contextmanager
def _serving(server_type, handler, context):
    server = server_type(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def _server_leaf(context, url):
    port = int(url.rpartition(":")[2])
    with context.wrap_socket(socket.create_connection(("localhost", port))) as tls:
        return tls.verified_peer.leaf


def _answer_with_leaf(origin, seen):
    async def answer(writer, _argument):
        seen.append(writer.get_extra_info("ssl_object").verified_peer.leaf)
        return await origin._answer(writer, "200 OK", b"ok")

    return answer


def _mentions_peer_error(err):
    """Whether our error is in what a library made of it, however it wraps."""
    todo, seen = [err], []
    while todo:
        each = todo.pop()
        if isinstance(each, PeerError):
            return True
        seen.append(each)
        nested = (each.__cause__, each.__context__, getattr(each, "reason", None), *each.args)
        todo += [n for n in nested if isinstance(n, BaseException) and n not in seen]
    return False
