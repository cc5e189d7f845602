# SPDX-License-Identifier: Apache-2.0
"""Calls to the public internet: whom the client trusts there, and that it shows nothing of ours."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
import threading

import certifi
import httpx
import httpx2
import pytest
import trustme

from kubetls_sdk import StaticSource, TrustBundleSet
from kubetls_sdk.client import httpx as of_httpx
from kubetls_sdk.client import httpx2 as of_httpx2
from kubetls_sdk.client._external import ExternalContext, ExternalSetup
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.testing import DevelopmentCA, KubeletVolume
from tests.integration.bundle_server import BundleServer
from tests.integration.origin import Origin, load_chain, stock_server_context

CA = DevelopmentCA("example.org")
ORDERS = "spiffe://example.org/ns/shop/sa/orders"
LIBRARIES = {httpx: of_httpx, httpx2: of_httpx2}
libraries = pytest.mark.parametrize("library", LIBRARIES, ids=lambda each: each.__name__)


def get_sync(library, url, **options):
    with LIBRARIES[library].ExternalClient(**options) as client:
        return client.get(url)


def get_async(library, url, **options):
    async def get():
        async with LIBRARIES[library].AsyncExternalClient(**options) as client:
            return await client.get(url)

    return asyncio.run(get())


both = pytest.mark.parametrize("get", [get_sync, get_async], ids=["sync", "async"])


@pytest.fixture(scope="module")
def web():
    return trustme.CA()


@pytest.fixture
def roots(web, tmp_path):
    path = tmp_path / "roots.pem"
    web.cert_pem.write_to_path(path)
    return path


def context_of(ca, name="localhost"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
def origin(web):
    with Origin.running(context_of(web)) as running:
        yield running


@contextlib.contextmanager
def asking():
    """A server of our own trust domain that asks for certificates of it, and requires none."""
    context = stock_server_context(CA.issue("/ns/shop/sa/orders", dns_names=("localhost",)))
    context.load_verify_locations(cadata=CA.bundle.to_pem().decode())
    with BundleServer.running(context) as server:
        yield server


class TestOnTheWire:
    @libraries
    @both
    def test_presents_nothing(self, library, get, tmp_path, monkeypatch):
        """A server that asks for a certificate gets none, though one is mounted."""
        KubeletVolume(tmp_path / "volume").write_svid(CA.issue(), [CA.bundle])
        monkeypatch.setenv("KUBETLS_DIR", str(tmp_path / "volume"))
        path = tmp_path / "ours.pem"
        path.write_bytes(CA.bundle.to_pem())
        with asking() as server:
            assert get(library, server.url, roots=path).status_code == 200
            assert list(map(bool, server.client_certificates)) == [False]

    @libraries
    def test_the_other_client_does(self, library):
        """The same server gets the certificate of the client for workloads."""
        source = StaticSource(CA.issue("/ns/shop/sa/web"), TrustBundleSet([CA.bundle]))
        with asking() as server, LIBRARIES[library].Client(server=ORDERS, source=source) as client:
            assert client.get(server.url).status_code == 200
            (certificate,) = server.client_certificates
        assert ("URI", "spiffe://example.org/ns/shop/sa/web") in certificate["subjectAltName"]

    @libraries
    @both
    def test_required(self, library, get, tmp_path):
        """A server that requires one gets none either: the call fails."""
        path = tmp_path / "ours.pem"
        path.write_bytes(CA.bundle.to_pem())
        svid = CA.issue("/ns/shop/sa/orders", dns_names=("localhost",))
        context = stock_server_context(svid, roots=CA.bundle.to_pem())
        with Origin.running(context) as origin, pytest.raises(library.TransportError):
            get(library, origin.url, roots=path)
        assert origin.requests == []


class TestTrust:
    @libraries
    @both
    def test_roots(self, library, get, origin, roots):
        """The roots of a file are trusted."""
        assert get(library, origin.url, roots=roots).text == "ok"

    @libraries
    @both
    def test_web_roots(self, library, get, origin, roots, monkeypatch):
        """The web's roots are certifi's."""
        with pytest.raises(library.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            get(library, origin.url, web_roots=True)
        monkeypatch.setattr(certifi, "where", lambda: str(roots))
        assert get(library, origin.url, web_roots=True).text == "ok"

    def test_system_roots(self, origin, roots, monkeypatch):
        """They are the system's where certifi is not installed."""
        monkeypatch.setenv("SSL_CERT_FILE", str(roots))
        with monkeypatch.context() as without:
            without.setitem(sys.modules, "certifi", None)
            setup = ExternalSetup(httpx, web_roots=True, roots=None, options={})
        with httpx.Client(transport=setup.sync_transport(), trust_env=False) as client:
            assert client.get(origin.url).text == "ok"

    @libraries
    @both
    def test_other_roots(self, library, get, roots, tmp_path, monkeypatch):
        """With roots of a file neither the web's, nor the environment's, nor ours are trusted."""
        strange = trustme.CA()
        path = tmp_path / "strange.pem"
        strange.cert_pem.write_to_path(path)
        monkeypatch.setattr(certifi, "where", lambda: str(path))
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        svid = CA.issue("/ns/shop/sa/orders", dns_names=("localhost",))
        for context in (context_of(strange), stock_server_context(svid)):
            with Origin.running(context) as origin:
                with pytest.raises(library.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                    get(library, origin.url, roots=roots)
                assert origin.requests == []

    @libraries
    @both
    def test_name(self, library, get, web, roots):
        """A server must have the DNS name of the URL."""
        with Origin.running(context_of(web, "elsewhere.example")) as origin:
            with pytest.raises(library.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                get(library, origin.url, roots=roots)
            assert origin.requests == []

    @libraries
    @both
    def test_http(self, library, get, origin, roots):
        """Nothing goes in the clear, also where a redirect leads there."""
        for url in ("http://localhost:1/", f"{origin.url}/redirect?http://localhost:1/"):
            with pytest.raises(library.UnsupportedProtocol, match="https"):
                get(library, url, roots=roots, follow_redirects=True)

    @libraries
    @both
    def test_http2(self, library, get, roots, origin):
        """HTTP/2 may be offered."""
        assert get(library, origin.url, roots=roots, http2=True).text == "ok"


class TestProxy:
    @pytest.fixture
    def proxy(self):
        """A proxy that carries one connection; its first line is remembered."""
        seen = []
        with socket.create_server(("127.0.0.1", 0)) as listening:
            url = f"http://user:secret@127.0.0.1:{listening.getsockname()[1]}"
            thread = threading.Thread(target=_carry, args=(listening, seen))
            thread.start()
            yield url, seen
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)

    @libraries
    @both
    def test_explicit(self, library, get, proxy, origin, roots):
        """A proxy that is asked for carries what it cannot read."""
        url, seen = proxy
        assert get(library, origin.url, roots=roots, proxy=url).text == "ok"
        assert seen[0].startswith(b"CONNECT localhost:")
        assert b"roxy-" in seen[0]

    @libraries
    @both
    def test_environment(self, library, get, proxy, origin, roots, monkeypatch):
        """The environment's is not used."""
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy[0])
        assert get(library, origin.url, roots=roots).text == "ok"
        assert proxy[1] == []

    @libraries
    def test_own_context(self, library, roots):
        """A proxy with a TLS context of its own could be shown a certificate."""
        theirs = library.Proxy("https://proxy.example", ssl_context=ssl.create_default_context())
        with pytest.raises(ConfigurationError, match="without a TLS context"):
            LIBRARIES[library].ExternalClient(roots=roots, proxy=theirs)


class TestOptions:
    @libraries
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "either web_roots=True or roots"),
            ({"web_roots": False}, "either web_roots=True or roots"),
            ({"web_roots": True, "roots": "x"}, "either web_roots=True or roots"),
            ({"web_roots": "yes"}, "either web_roots=True or roots"),
            ({"web_roots": True, "server": ORDERS}, "no server=, got one: it is about identities"),
            ({"web_roots": True, "servers": {}}, "no servers="),
            ({"web_roots": True, "service_names": True}, "no service_names="),
            ({"web_roots": True, "source": "a source"}, "no source="),
            ({"web_roots": True, "cert": "x.pem"}, "no cert="),
            ({"web_roots": True, "verify": False}, "no verify="),
            ({"web_roots": True, "transport": "a transport"}, "no transport="),
            ({"web_roots": True, "mounts": {}}, "no mounts="),
            ({"web_roots": True, "trust_env": True}, "no trust_env="),
            ({"web_roots": True, "base_url": "http://a.example"}, "https base_url"),
            ({"roots": "/nowhere.pem"}, "'/nowhere.pem': No such file"),
            ({"roots": __file__}, "no PEM roots"),
        ],
        ids=range(16),
    )
    def test_refused(self, library, options, message):
        """What contradicts, is missing, or would choose trust otherwise is an error."""
        for kind in (LIBRARIES[library].ExternalClient, LIBRARIES[library].AsyncExternalClient):
            with pytest.raises(ConfigurationError, match=message):
                kind(**options)

    @libraries
    @pytest.mark.parametrize("options", [{"web_roots": True}, {"roots": "x.pem"}], ids=str)
    def test_the_other_client(self, library, options):
        """The client for workloads takes no web roots, and says which one does."""
        with pytest.raises(ConfigurationError, match="ExternalClient"):
            LIBRARIES[library].Client(server=ORDERS, **options)

    def test_no_certificate_later(self, roots, tmp_path):
        """The context takes no certificate, whoever gets hold of it."""
        context = ExternalContext.build(roots)
        with pytest.raises(ConfigurationError, match="no certificate"):
            load_chain(context, CA.issue())
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname

    def test_package(self):
        """The package offers them, of the library that is installed."""
        from kubetls_sdk import client

        assert client.ExternalClient is of_httpx2.ExternalClient
        assert client.AsyncExternalClient is of_httpx2.AsyncExternalClient


def _carry(listening, seen):
    with contextlib.suppress(OSError):
        near, _ = listening.accept()
        with near:
            head = b""
            while b"\r\n\r\n" not in head:
                head += near.recv(4096)
            seen.append(head)
            port = int(head.split(b" ")[1].rpartition(b":")[2])
            with socket.create_connection(("127.0.0.1", port)) as far:
                near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=_copy, args=(far, near))
                back.start()
                _copy(near, far)
                back.join(10)


def _copy(source, sink):
    with contextlib.suppress(OSError):
        while part := source.recv(65536):
            sink.sendall(part)
        sink.shutdown(socket.SHUT_WR)
