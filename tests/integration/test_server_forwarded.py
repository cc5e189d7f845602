# SPDX-License-Identifier: Apache-2.0
"""A proxy in front of each server: it presents its own SVID, and tells about its clients."""

from __future__ import annotations

import json
import socket

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_websocket

from kubetls_sdk import TrustBundleSet, TrustDomain
from kubetls_sdk.authz import PolicySet
from kubetls_sdk.server.caller import caller
from kubetls_sdk.server.forwarded import ForwardedFrom
from tests.integration.serving import World, exchange, read_to_end, receive_response, serve
from tests.integration.test_server_hypercorn import running
from tests.sdk.server.forwarding import client_cert, forwarded_client_cert, lines
from tests.waiting import until

PROXY = "spiffe://example.org/ns/edge/sa/envoy"
PHONE = "spiffe://example.org/ns/shop/sa/phone"
FORMS = {"client-cert": client_cert, "x-forwarded-client-cert": forwarded_client_cert}
SERVERS = ["h11", "httptools", "zttp", "hypercorn"]
UPGRADE = (
    b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def start(name, world, header="client-cert", **settings):
    """Run a server that believes the proxy."""
    forwarded = ForwardedFrom(proxies=[PROXY], header=header)
    if name == "hypercorn":
        return running(world, forwarded=forwarded, **settings)
    middleware = {"forwarded": forwarded}
    return serve(world, http=name, http2=name == "zttp", middleware=middleware, **settings)


@pytest.fixture
def world():
    return World()


@pytest.fixture
def proxy(world):
    return world.client(world.ca.issue("/ns/edge/sa/envoy"))


@pytest.fixture
def phone(world):
    return world.ca.issue("/ns/shop/sa/phone", intermediates=1)


def forged(world):
    """A chain with which a partner poses as one of us."""
    return world.partner.issue_for("example.org", "/ns/shop/sa/phone").chain


def request(fields=b"", path=b"/"):
    return b"GET " + path + b" HTTP/1.1\r\nhost: orders\r\n" + fields + b"\r\n"


def seen(world):
    """Of each request that reached the application: its client, and names of its fields."""
    return [
        (str(caller(scope).forwarded), [name for name, _ in scope["headers"]])
        for scope in world.application.scopes
    ]


@pytest.mark.parametrize("server", SERVERS)
class TestServers:
    @pytest.mark.parametrize("header", FORMS)
    def test_requests_in_turn(self, world, proxy, phone, server, header):
        """On one connection each request has its own client, or none; the caller is the proxy."""
        other = world.ca.issue("/ns/shop/sa/other")
        with start(server, world, header) as running, running.connect(proxy) as connection:
            for svid in (phone, None, other, phone, None):
                fields = lines(FORMS[header](svid.chain)) if svid else b""
                assert exchange(connection, request(fields))[::2] == (200, PROXY.encode())
        clients = [str(client).rpartition("/")[2] for client, _ in seen(world)]
        assert clients == ["phone", "None", "other", "phone", "None"]
        assert {name for _, names in seen(world) for name in names} == {b"host"}

    @pytest.mark.parametrize("header", FORMS)
    def test_another_peer(self, world, phone, server, header):
        """Of another workload the fields are removed, and its request is served as its own."""
        fields = lines(FORMS[header](phone.chain))
        with start(server, world, header) as running, running.connect(world.client()) as connection:
            assert exchange(connection, request(fields))[2].endswith(b"/sa/web")
        assert seen(world) == [("None", [b"host"])]

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            pytest.param(lambda fields, _: fields * 2, 400, id="twice"),
            pytest.param(lambda fields, _: fields[:-9] + b"\r\n", 400, id="cut-off"),
            pytest.param(lambda f, _: f + b"Client_Cert: :AAAA:\r\n", 400, id="underscore"),
            pytest.param(lambda f, _: f.replace(b"client", b"CLIENT"), 200, id="upper-case"),
            pytest.param(lambda _, world: lines(client_cert(forged(world))), 401, id="forged"),
        ],
    )
    def test_what_the_proxy_says(self, world, proxy, server, change, status):
        """What the proxy tells is proven, or the request is refused and its connection goes on."""
        fields = lines(client_cert(world.ca.issue("/ns/shop/sa/phone").chain))
        with start(server, world) as running, running.connect(proxy) as connection:
            assert exchange(connection, request(change(fields, world)))[0] == status
            assert exchange(connection, request())[0] == 200
        assert len(seen(world)) == (2 if status == 200 else 1)

    def test_websocket(self, world, proxy, server):
        """A WebSocket has its client, and ends with 1008 when that client's root is removed."""
        fields = dict(client_cert(world.partner.issue("/app").chain))
        headers = {name.decode(): value.decode() for name, value in fields.items()}
        with (
            start(server, world, stream_recheck=1.0) as running,
            connect_websocket(
                f"wss://localhost:{running.port}/", ssl=proxy, additional_headers=headers
            ) as websocket,
        ):
            websocket.send("hello")
            assert websocket.recv(10) == f"{PROXY} hello"
            world.source.replace(bundles=TrustBundleSet([world.ca.bundle]))
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv(10)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008
        assert seen(world)[0][0] == "spiffe://partner.example/app"

    def test_websocket_that_proves_nothing(self, world, proxy, server):
        """A handshake with a certificate that cannot be read is refused."""
        with start(server, world) as running, running.connect(proxy) as connection:
            connection.sendall(request(UPGRADE + b"client-cert: nonsense\r\n"))
            assert receive_response(connection)[0] in (400, 403)
        assert seen(world) == []

    def test_stream(self, world, proxy, server):
        """A response under way ends when its client's root is removed; the proxy may go on."""
        fields = lines(client_cert(world.partner.issue("/app").chain))
        with start(server, world, stream_recheck=1.0) as running:
            with running.connect(proxy) as connection:
                connection.sendall(request(fields, b"/stream"))
                until(lambda: world.application.scopes)
                world.source.replace(bundles=TrustBundleSet([world.ca.bundle]))
                read_to_end(connection)
                assert world.application.ended.wait(10)
            with running.connect(proxy) as connection:
                assert exchange(connection, request())[0] == 200

    def test_policy_changes(self, world, proxy, phone, server):
        """What runs for a client that the new policy does not name ends; others go on."""
        other, policy = world.ca.issue("/ns/shop/sa/other"), Policy("phone", "other")
        with (
            start(server, world, policy=policy, stream_recheck=0.5) as running,
            running.connect(proxy) as kept,
            running.connect(proxy) as lost,
        ):
            for connection, svid in ((kept, phone), (lost, other)):
                connection.sendall(request(lines(client_cert(svid.chain)), b"/stream"))
                assert connection.recv(65536)
            policy.put("phone")
            read_to_end(lost)
            assert all(b"tick" in kept.recv(65536) for _ in range(10))


class Policy:
    """A holder of policies in which the proxy may do all for the workloads that are named."""

    def __init__(self, *names):
        self.callbacks = []
        self.put(*names)

    def put(self, *names):
        clients = ", ".join(f"'spiffe://example.org/ns/shop/sa/{name}'" for name in names)
        rule = {"name": "named", "from": {"namespace": "edge"}, "to": {"methods": "GET"}}
        rule["to"]["paths"] = "/**"
        rule["when"] = f"forwarded.spiffeId in [{clients}]"
        text = json.dumps({"version": 1, "policies": [{"name": "edge", "allow": [rule]}]})
        self.current = PolicySet.parse({"p": text}, trust_domain=TrustDomain("example.org"))
        for callback in self.callbacks:
            callback(self.current)

    def subscribe(self, callback):
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)


def test_one_of_two_streams(world, proxy, phone):
    """One client that loses its root ends nobody else's stream on the proxy's connection."""
    partner = client_cert(world.partner.issue("/app").chain)
    with (
        start("zttp", world, stream_recheck=0.5) as running,
        httpx.Client(http1=False, http2=True, verify=proxy) as client,
    ):
        url = f"https://localhost:{running.port}/stream"
        with (
            client.stream("GET", url, headers=client_cert(phone.chain)) as good,
            client.stream("GET", url, headers=partner) as bad,
        ):
            kept, lost = good.iter_raw(), bad.iter_raw()
            assert next(kept)
            assert next(lost)
            world.source.replace(bundles=TrustBundleSet([world.ca.bundle]))
            with pytest.raises(httpx.RemoteProtocolError):
                list(lost)
            assert all(b"tick" in next(kept) for _ in range(10))
    assert len({scope["client"] for scope in world.application.scopes}) == 1


@pytest.mark.parametrize("server", ["zttp", "hypercorn"])
class TestHttp2:
    def test_requests_in_turn(self, world, proxy, phone, server):
        """Each stream has its own client, or none."""
        with (
            start(server, world) as running,
            httpx.Client(http1=False, http2=True, verify=proxy) as client,
        ):
            for fields in (client_cert(phone.chain), [], client_cert(phone.chain)):
                answer = client.get(f"https://localhost:{running.port}/", headers=fields)
                assert (answer.http_version, answer.text) == ("HTTP/2", PROXY)
        assert [client for client, _ in seen(world)] == [PHONE, "None", PHONE]
        assert all(b"client-cert" not in names for _, names in seen(world))

    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param([(b"client-cert", b":AAAA:")], id="another-peer"),
            pytest.param([(b"x_forwarded_client_cert", b"URI=a")], id="underscore"),
            pytest.param([(b"X-Forwarded-Client-Cert", b"URI=a")], id="upper-case"),
            pytest.param([(b":client-cert", b":AAAA:")], id="pseudo"),
            pytest.param([(b"client-cert", b":A"), (b"client-cert", b"A:")], id="twice"),
            pytest.param([(b"client-cert ", b":AAAA:")], id="space-in-the-name"),
            pytest.param([(b"x-\xdfl-client-cert", b"a")], id="letter-that-becomes-two"),
        ],
    )
    def test_strangers(self, world, server, fields):
        """What another workload writes is removed or refused by the server; none gets through."""
        with start(server, world) as running:
            assert send_http2(running, world.client(), fields)
        for client, names in seen(world):
            assert client == "None"
            assert not [name for name in names if b"cert" in name.lower()]


def send_http2(running, context, fields, *, trailers=(), name="localhost"):
    """Send a request as h2 would never let it through, and read what comes back.

    Returns:
        Whether the server speaks HTTP/2.
    """
    connection = h2.connection.H2Connection(
        h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    )
    context.set_alpn_protocols(["h2"])
    plain = socket.create_connection(("127.0.0.1", running.port), timeout=10)
    with context.wrap_socket(plain, server_hostname=name) as wire:
        if wire.selected_alpn_protocol() != "h2":
            return False
        connection.initiate_connection()
        head = [
            (b":method", b"POST" if trailers else b"GET"), (b":path", b"/"),
            (b":scheme", b"https"), (b":authority", b"orders"),
        ]  # fmt: skip
        connection.send_headers(1, head + fields, end_stream=not trailers)
        if trailers:
            connection.send_data(1, b"body")
            connection.send_headers(1, trailers, end_stream=True)
        wire.sendall(connection.data_to_send())
        return _read_http2(connection, wire)


def _read_http2(connection, wire):
    ends = (h2.events.StreamEnded, h2.events.StreamReset, h2.events.ConnectionTerminated)
    while data := wire.recv(65536):
        if any(isinstance(event, ends) for event in connection.receive_data(data)):
            return True  # without a word more: it may be gone
    return False
