# SPDX-License-Identifier: Apache-2.0
"""Our own bundle endpoint over real TLS: fetched by our client and by others, and abused."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading

import pytest
import trustme

from kubetls_sdk.bundle import TrustBundleSet
from kubetls_sdk.exceptions import ConfigurationError, NotReadyError
from kubetls_sdk.federation import Endpoint, FederatedSource, Partner, Profile, listener
from kubetls_sdk.federation.fetch import fetch_bundle
from kubetls_sdk.federation.listener import BundleListener, EndpointListener
from kubetls_sdk.federation.publication import Publication
from kubetls_sdk.source import StaticSource
from kubetls_sdk.testing import DevelopmentCA
from tests.handshaking import stock_client
from tests.waiting import until

PATH = "/ns/spire/sa/bundles"


@pytest.fixture
def ca():
    return DevelopmentCA("example.org")


@pytest.fixture
def source(ca):
    return StaticSource(ca.issue(PATH), TrustBundleSet([ca.bundle]))


@contextlib.contextmanager
def serving(made):
    """Run a listener in a thread."""
    ready, loops = threading.Event(), []

    async def main():
        await made.start()
        loops.append((asyncio.get_running_loop(), asyncio.Event()))
        ready.set()
        await loops[0][1].wait()
        await made.stop()
        await asyncio.sleep(0)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    try:
        assert ready.wait(10)
        yield made.bound_port
    finally:
        loops[0][0].call_soon_threadsafe(loops[0][1].set)
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def port(source):
    with serving(BundleListener(source, port=0, host="127.0.0.1", path="/bundle.json")) as port:
        yield port


def exchange(port, request, context=None):
    """Send bytes over TLS, and read to the end."""
    context = context or stock_client()
    with connected(port, context) as connection:
        connection.sendall(request)
        received = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while part := connection.recv(65536):
                received += part
        return received


@contextlib.contextmanager
def connected(port, context):
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        yield connection


GET = b"GET /bundle.json HTTP/1.1\r\nhost: a\r\n\r\n"


class TestSpiffe:
    def test_fetched(self, port, ca):
        """Our client gets our bundle, and verifies us by our SPIFFE ID."""
        endpoint = Endpoint(
            url=f"https://127.0.0.1:{port}/bundle.json",
            profile=Profile.SPIFFE,
            spiffe_id=ca.spiffe_id(PATH),
        )
        found = asyncio.run(fetch_bundle(ca.trust_domain, endpoint, known=ca.bundle))
        assert found.bundle.authorities == ca.bundle.authorities

    def test_federation_between_two(self, port, source, ca, tmp_path):
        """A partner that follows our endpoint trusts our new root as soon as it asks again."""
        (tmp_path / "ours.pem").write_bytes(ca.bundle.to_pem())
        theirs = DevelopmentCA("partner.example")
        endpoint = Endpoint(
            url=f"https://127.0.0.1:{port}/bundle.json",
            profile=Profile.SPIFFE,
            spiffe_id=ca.spiffe_id(PATH),
        )
        we = Partner(trust_domain=ca.trust_domain, endpoint=endpoint, bundle=tmp_path / "ours.pem")
        inner = StaticSource(theirs.issue(), TrustBundleSet([theirs.bundle]))
        with FederatedSource(inner, partners=[we]) as partner:
            assert len(partner.snapshot.bundles[ca.trust_domain]) == 1
            ca.add_root()
            source.replace(bundles=TrustBundleSet([ca.bundle]))
            partner.refresh()
            until(lambda: len(partner.snapshot.bundles[ca.trust_domain]) == 2)
            assert partner.status.problems == ()

    def test_asks_for_no_certificate(self, port, source, ca):
        """A client's certificate is not asked for, so it is neither needed nor refused."""
        stranger = DevelopmentCA("stranger.example").issue()
        asked = []
        context = stock_client(stranger)
        context._msg_callback = lambda *args: asked.append(args[4])
        assert exchange(port, GET, context).startswith(b"HTTP/1.1 200")
        assert asked
        assert 13 not in {getattr(each, "value", each) for each in asked}  # CertificateRequest

    def test_rotation(self, port, source, ca):
        """New connections get the new certificate."""
        before = presented(port)
        source.replace(svid=ca.issue(PATH))
        assert presented(port) != before

    def test_not_resumed(self, port):
        """No session is resumed, so no old certificate lives on."""
        context = stock_client()
        with connected(port, context) as connection:
            connection.sendall(GET)
            while connection.recv(65536):
                pass
            assert not connection.session.has_ticket

    def test_nothing_to_present(self):
        """Without an SVID it does not start."""

        class Nothing:
            @property
            def snapshot(self):
                raise NotReadyError("nothing yet")

        with pytest.raises(NotReadyError):
            asyncio.run(BundleListener(Nothing(), port=0).start())


def presented(port):
    with connected(port, stock_client()) as connection:
        return connection.getpeercert(binary_form=True)


class TestWeb:
    @pytest.fixture
    def web_ca(self):
        return trustme.CA()

    @pytest.fixture
    def files(self, web_ca, tmp_path):
        issued = web_ca.issue_cert("localhost")
        issued.private_key_pem.write_to_path(tmp_path / "tls.key")
        tmp_path.joinpath("tls.crt").write_bytes(
            b"".join(each.bytes() for each in issued.cert_chain_pems)
        )
        web_ca.cert_pem.write_to_path(tmp_path / "roots.pem")
        return tmp_path

    def test_fetched(self, source, ca, files):
        """Partners fetch our bundle as they fetch any web page."""
        made = BundleListener(
            source,
            port=0,
            host="127.0.0.1",
            certificate=str(files / "tls.crt"),
            key=str(files / "tls.key"),
        )
        assert made.profile is Profile.WEB
        with serving(made) as port:
            endpoint = Endpoint(
                url=f"https://localhost:{port}/",
                profile=Profile.WEB,
                ca_file=files / "roots.pem",
            )
            found = asyncio.run(fetch_bundle(ca.trust_domain, endpoint))
            leaf = presented(port)
        assert found.bundle.authorities == ca.bundle.authorities
        assert b"spiffe://" not in leaf  # Nothing of the inside is shown.

    def test_renewal(self, source, files, web_ca, monkeypatch):
        """The certificate is followed."""
        monkeypatch.setattr(listener, "_POLL_SECONDS", 0.05)
        made = BundleListener(
            source,
            port=0,
            host="127.0.0.1",
            certificate=str(files / "tls.crt"),
            key=str(files / "tls.key"),
        )
        with serving(made) as port:
            before = presented(port)
            issued = web_ca.issue_cert("localhost")
            issued.private_key_pem.write_to_path(files / "tls.key")
            issued.cert_chain_pems[0].write_to_path(files / "tls.crt")
            until(lambda: presented(port) != before)

    def test_half(self, source, files):
        """A certificate needs its key."""
        with pytest.raises(ConfigurationError, match="neither"):
            BundleListener(source, port=0, certificate=str(files / "tls.crt"))


class TestRequests:
    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            pytest.param(GET, 200, id="get"),
            pytest.param(GET.replace(b"GET", b"HEAD"), 200, id="head"),
            pytest.param(GET.replace(b".json", b".json?v=1"), 200, id="query"),
            pytest.param(GET.replace(b"GET", b"POST"), 405, id="post"),
            pytest.param(GET.replace(b"/bundle.json", b"/"), 404, id="another path"),
            pytest.param(GET.replace(b"/bundle.json", b"/bundle.json/../x"), 404, id="dots"),
            pytest.param(
                GET.replace(b"/bundle.json", b"https://a/bundle.json"), 404, id="absolute"
            ),
            pytest.param(b"nonsense\r\n\r\n", 400, id="nonsense"),
            pytest.param(b"GET /bundle.json HTTP/2.0\r\n\r\n", 400, id="version"),
            pytest.param(b"GET /\xff HTTP/1.1\r\n\r\n", 404, id="bytes"),
        ],
    )
    def test_table(self, port, request_, status):
        """Exactly one path, GET and HEAD; everything else is refused without a body."""
        head, _, body = exchange(port, request_).partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert bool(body) is (status == 200 and not request_.startswith(b"HEAD"))
        assert b"connection: close" in head

    def test_condition(self, port):
        """A document that the client has is not sent again."""
        head = exchange(port, GET).partition(b"\r\n\r\n")[0].decode()
        tag = next(line for line in head.split("\r\n") if line.startswith("etag: "))[6:]
        request = GET[:-2] + f"If-None-Match: {tag}\r\n\r\n".encode()
        assert exchange(port, request).startswith(b"HTTP/1.1 304 Not Modified\r\n")

    def test_endless_head(self, port):
        """A head without end is cut off."""
        assert exchange(port, b"GET /bundle.json HTTP/1.1\r\nx: " + b"y" * 20000) == b""

    def test_second_request(self, port):
        """One answer for each connection."""
        assert exchange(port, GET + GET).count(b"HTTP/1.1 200") == 1


class TestBounds:
    def test_stalling(self, source, monkeypatch):
        """Connections that stall cannot lock others out: the oldest of them goes."""
        monkeypatch.setattr(listener, "_MAX_CONNECTIONS", 4)
        made = BundleListener(source, port=0, host="127.0.0.1", path="/bundle.json")
        with serving(made) as port, contextlib.ExitStack() as held:
            for _ in range(4):
                stalled = held.enter_context(connected(port, stock_client()))
                stalled.sendall(b"GET /bundle")
            for _ in range(4):
                held.enter_context(socket.create_connection(("127.0.0.1", port)))
            assert exchange(port, GET).startswith(b"HTTP/1.1 200")

    def test_deadline(self, source, monkeypatch):
        """A connection ends in time, whatever it does."""
        monkeypatch.setattr(listener, "_SECONDS", 0.2)
        with serving(BundleListener(source, port=0, host="127.0.0.1", path="/bundle.json")) as port:
            assert exchange(port, b"GET /bun") == b""

    def test_port_in_use(self, source, port):
        """A port that is taken ends the start."""
        with pytest.raises(ConfigurationError, match="free port"):
            asyncio.run(BundleListener(source, port=port, host="127.0.0.1").start())

    @pytest.mark.parametrize("path", ["", "x", "/a b", "/ä", "/\n"])
    def test_path(self, source, path):
        """A path is one."""
        with pytest.raises(ConfigurationError, match="path"):
            BundleListener(source, port=0, path=path)


class TestEndpointListener:
    def test_several_paths(self, source, ca):
        """Each path has what is published there when the request comes, and others nothing."""
        other = StaticSource(DevelopmentCA("other.example").issue(), TrustBundleSet([ca.bundle]))
        published = {"/a": Publication(source), "/b": Publication(other)}
        listener = EndpointListener(published.get, port=0, host="127.0.0.1", source=source)
        with serving(listener) as port:
            assert status_at(port, "/a") == b"200"
            assert status_at(port, "/b") == b"503"  # It has no bundle of its own trust domain.
            assert status_at(port, "/c") == b"404"
            published["/c"] = published.pop("/a")
            assert status_at(port, "/a") == b"404"
            assert status_at(port, "/c") == b"200"

    def test_nothing_to_present(self):
        """Without a certificate and without a source of an SVID there is no listener."""
        with pytest.raises(ConfigurationError, match="or the source of an SVID"):
            EndpointListener({}.get, port=0)


def status_at(port, path):
    return exchange(port, f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode()).split()[1]
