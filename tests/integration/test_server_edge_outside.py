# SPDX-License-Identifier: Apache-2.0
"""The outside face of a service at the edge: what strangers find out, and what opens nothing."""

from __future__ import annotations

import contextlib
import socket
import ssl

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk.authz import PolicySet
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.caller import ANONYMOUS, caller
from kubetls_sdk.server.edge import Edge
from kubetls_sdk.server.forwarded import ForwardedFrom
from kubetls_sdk.server.public_certificate import PublicCertificate
from tests.integration.serving import GET, World, exchange, read_to_end, stock_context
from tests.integration.test_server_edge import connected, public_client, running, write
from tests.sdk.server.forwarding import client_cert, lines
from tests.waiting import until


@pytest.fixture
def world():
    return World()


@pytest.fixture
def web_pki():
    return trustme.CA()


@pytest.fixture
def certificate(tmp_path, web_pki):
    write(tmp_path, web_pki)
    return {"certificate": str(tmp_path / "tls.crt"), "key": str(tmp_path / "tls.key")}


class Handshake:
    """A client's handshake in memory, with everything that went over the wire.

    Attributes:
        received: The bytes that the server sent.
        messages: Types of the server's handshake messages, decrypted.
        connection: The TLS object.
    """

    def __init__(self, port, context, name=None):
        self.received = b""
        self.messages = []
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context._msg_callback = self._note
        self.connection = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            self._shake(plain)

    def _note(self, _connection, direction, _version, content, message, _data):
        if direction == "read" and content.name == "HANDSHAKE":
            self.messages.append(getattr(message, "name", message))

    def _shake(self, plain):
        while True:
            try:
                self.connection.do_handshake()
            except ssl.SSLWantReadError:
                plain.sendall(self._outgoing.read())
                data = plain.recv(65536)
                if not data:
                    raise ConnectionResetError("the server ended the handshake") from None
                self.received += data
                self._incoming.write(data)
            else:
                return


NAMES = [
    "shop.example", "localhost", "orders", "orders.shop.svc.cluster.local", "127.0.0.1",
    "example.org", "x" * 60 + ".example", None,
]  # fmt: skip


class TestOutsideFace:
    """What strangers can find out, whatever they try in the handshake."""

    @pytest.fixture
    def edge(self, certificate):
        return Edge(port=0, host="127.0.0.1", **certificate)

    @pytest.mark.parametrize("alpn", [[], ["h2", "http/1.1"], ["spiffe"], ["acme-tls/1"]], ids=str)
    def test_one_certificate(self, world, edge, certificate, alpn):
        """Whatever name or protocol is asked for, the public certificate is all there is."""
        expected = ssl.PEM_cert_to_DER_cert(_first_pem(certificate["certificate"]))
        with running(world, edge=edge):
            for name in NAMES:
                context = _indifferent()
                if alpn:
                    context.set_alpn_protocols(alpn)
                shaken = Handshake(edge.bound_port, context, name)
                assert shaken.connection.getpeercert(binary_form=True) == expected

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_messages(self, world, edge, version):
        """No client certificate is asked for, and nothing of the inside is in the handshake."""
        context = _indifferent()
        context.minimum_version = context.maximum_version = version
        with running(world, edge=edge):
            shaken = Handshake(edge.bound_port, context, "localhost")
        assert "CERTIFICATE" in shaken.messages
        assert "CERTIFICATE_REQUEST" not in shaken.messages
        _check_shows_nothing(shaken.received, world)

    @pytest.mark.parametrize(
        "sent",
        [
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"\x16\x03\x01\x00\x05hello",
            b"\x15\x03\x03\x00\x02\x02\x28", b"\x16\x03\x01\xff\xff" + b"\0" * 70000,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x80\x2e\x01\x00\x02",
        ],
        ids=["http", "garbage", "alert", "huge-record", "http2", "sslv2"],
    )  # fmt: skip
    def test_errors(self, world, edge, sent):
        """A handshake that fails tells nothing of the inside either."""
        with (
            running(world, edge=edge, handshake_timeout=0.5),
            socket.create_connection(("127.0.0.1", edge.bound_port), timeout=10) as plain,
        ):
            with contextlib.suppress(OSError):
                plain.sendall(sent)
            _check_shows_nothing(read_to_end(plain), world)

    def test_svid_authenticates_nobody(self, world, edge, web_pki):
        """A client that would present an SVID of ours is anonymous, at each request."""
        text = (
            "version: 1\npolicies:\n- name: p\n  allow:\n  - name: inside\n"
            "    from: {namespace: shop}\n    to: {methods: GET, paths: '/**'}\n"
        )
        policy = PolicySet.parse({"p": text}, trust_domain=world.ca.trust_domain)
        context = stock_context(world.ca.issue("/ns/shop/sa/web"), world.ca.bundle)
        context.post_handshake_auth = True
        web_pki.configure_trust(context)
        with (
            running(world, edge=edge, policy=policy),
            connected(edge.bound_port, context, "shop.example") as connection,
        ):
            for _ in range(2):
                assert exchange(connection)[0] == 403

    def test_no_proxy_is_believed(self, world, edge, web_pki):
        """A proxy that is believed inside is a stranger outside, whatever it presents and tells."""
        proxy = world.ca.issue("/ns/edge/sa/envoy")
        forwarded = ForwardedFrom(proxies=[proxy.spiffe_id])
        told = GET[:-2] + lines(client_cert(world.ca.issue("/phone").chain)) + b"\r\n"
        context = stock_context(proxy, world.ca.bundle)
        web_pki.configure_trust(context)
        with running(world, edge=edge, forwarded=forwarded) as port:
            with connected(port, world.client(proxy)) as connection:
                assert exchange(connection, told)[0] == 200
            with connected(edge.bound_port, context, "shop.example") as connection:
                assert exchange(connection, told)[2] == b"anonymous"
        inside, outside = world.application.scopes
        assert str(caller(inside).forwarded) == "spiffe://example.org/phone"
        assert caller(outside) == ANONYMOUS
        assert [name for name, _ in outside["headers"]] == [b"host"]

    def test_session_from_outside(self, world, edge, web_pki):
        """A session of the outside face opens nothing inside, and none of the inside exists."""
        context = stock_context(None, world.ca.bundle)
        web_pki.configure_trust(context)
        with running(world, edge=edge) as port:
            with connected(edge.bound_port, context, "shop.example") as connection:
                exchange(connection)
                session = connection.session
            assert session is not None
            with pytest.raises((ConnectionError, ssl.SSLError)):
                _resume(port, context, session)
        assert len(world.application.scopes) == 1

    def test_answers(self, world, edge, web_pki):
        """Fields by which an application tells identities do not leave; inside they may."""

        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                await world.application(scope, receive, send)
                return
            headers = [
                (b"content-length", b"0"), (b"X-Spiffe-Id", b"spiffe://example.org/ns/a/sa/b"),
                (b"x_forwarded_client_cert", b"By=spiffe://example.org/x"), (b"x-kept", b"1"),
            ]  # fmt: skip
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

        inner = World()
        inner.application = app
        with running(inner, edge=edge) as port:
            with connected(edge.bound_port, *public_client(web_pki)) as connection:
                outside = exchange(connection)[1]
            with connected(port, inner.client()) as connection:
                inside = exchange(connection)[1]
        assert outside["x-kept"] == "1"
        assert not any("spiffe" in f"{name}{value}" for name, value in outside.items())
        assert inside["x-spiffe-id"] == "spiffe://example.org/ns/a/sa/b"

    def test_svid_as_public_certificate(self, world, tmp_path):
        """An SVID is no certificate for the public, at the start or later."""
        svid = world.ca.issue("/ns/shop/sa/orders", dns_names=("shop.example",))
        (tmp_path / "tls.crt").write_bytes(svid.certificates_pem())
        (tmp_path / "tls.key").write_bytes(svid.private_key_pem())
        edge = Edge(port=0, certificate=str(tmp_path / "tls.crt"), key=str(tmp_path / "tls.key"))
        with pytest.raises(ConfigurationError, match="SPIFFE ID"):
            edge.bind()

    def test_svid_put_there_meanwhile(self, world, certificate, tmp_path, monkeypatch):
        """Files that change between the look at them and their use are not used."""
        public = PublicCertificate(**certificate, alpn_protocols=[])
        before = public.context
        svid = world.ca.issue("/ns/shop/sa/orders", dns_names=("shop.example",))

        def replace(*_):
            (tmp_path / "tls.key").write_bytes(svid.private_key_pem())
            (tmp_path / "tls.crt").write_bytes(svid.certificates_pem())

        write(tmp_path, trustme.CA(), "new.example")
        monkeypatch.setattr("kubetls_sdk.server.public_certificate._check_public", replace)
        public.reload()
        assert public.context is before
        monkeypatch.undo()
        public.reload()
        assert public.context is before

    def test_svid_put_there_later(self, world, edge, web_pki, tmp_path, caplog):
        """An SVID in the place of the public certificate is not shown: the last one stays."""
        edge.poll_seconds = 0.05
        svid = world.ca.issue("/ns/shop/sa/orders", dns_names=("shop.example",))
        with running(world, edge=edge):
            (tmp_path / "tls.key").write_bytes(svid.private_key_pem())
            (tmp_path / "tls.crt").write_bytes(svid.certificates_pem())
            until(lambda: "SPIFFE ID" in caplog.text)
            with connected(edge.bound_port, *public_client(web_pki)) as connection:
                assert exchange(connection)[0] == 200


def _resume(port, context, session):
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="shop.example", session=session) as connection,
    ):
        assert not connection.session_reused
        exchange(connection)


def _indifferent():
    """A client that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _first_pem(path):
    with open(path, encoding="ascii") as file:
        return file.read().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"


def _check_shows_nothing(received, world):
    """Neither our certificate nor any name of the inside is in it."""
    svid = world.source.snapshot.svid
    assert svid.leaf.public_bytes(Encoding.DER) not in received
    assert world.ca.authority.public_bytes(Encoding.DER) not in received
    for name in (b"spiffe", b"example.org", b"orders", b"localhost"):
        assert name not in received
