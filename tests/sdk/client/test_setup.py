# SPDX-License-Identifier: Apache-2.0
"""What a client takes and refuses at construction."""

from __future__ import annotations

import importlib
import os
import ssl
import subprocess
import sys

import pytest

from kubetls_sdk import ConfigurationError
from kubetls_sdk.client import _inner_transport
from kubetls_sdk.testing import DevelopmentCA

CA = DevelopmentCA("example.org")
ORDERS = "spiffe://example.org/ns/shop/sa/orders"


@pytest.fixture(params=["httpx", "httpx2"])
def module(request):
    return importlib.import_module(f"kubetls_sdk.client.{request.param}")


@pytest.fixture(params=["Client", "AsyncClient"])
def make(request, module, kubetls_source):
    source = kubetls_source(ca=CA)
    return lambda **options: getattr(module, request.param)(
        **{"server": ORDERS, "source": source, **options}
    )


class TestRefused:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("verify", True),
            ("verify", False),
            ("verify", ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)),
            ("cert", "client.pem"),
            ("transport", object()),
            ("mounts", {"https://": object()}),
            ("proxy", "http://proxy:3128"),
            ("trust_env", True),
        ],
    )
    def test_other_ways_to_trust_or_route(self, make, name, value):
        """An option that would bypass the expected identity is refused by name, with a reason."""
        with pytest.raises(ConfigurationError, match=f"expected no {name}=, got one: "):
            make(**{name: value})

    def test_plain_base_url(self, make):
        """A base URL without TLS is refused before the first request."""
        with pytest.raises(ConfigurationError, match="expected an https base_url"):
            make(base_url="http://orders")

    def test_nobody_expected(self, make):
        """Whom to talk to is mandatory."""
        with pytest.raises(ConfigurationError, match="expected exactly one of"):
            make(server=None)

    def test_path_as_source(self, make, tmp_path):
        """Who gives a path instead of a source is told how to make one of it."""
        with pytest.raises(ConfigurationError, match=r"such as VolumeSource\('.*'\), got a path"):
            make(source=tmp_path)

    def test_unknown_option(self, make):
        """A misspelt option is an error, not ignored."""
        with pytest.raises(TypeError, match="service"):
            make(service="orders")


class TestTaken:
    def test_options_of_the_original(self, make, module):
        """Everything else goes to the library as it is."""
        library = importlib.import_module(module.__name__.rpartition(".")[2])
        client = make(
            base_url="https://orders",
            headers={"X-A": "b"},
            timeout=3,
            follow_redirects=True,
            http2=True,
            limits=library.Limits(max_connections=1),
            trust_env=False,
            verify=None,
        )
        assert isinstance(client, library.Client | library.AsyncClient)
        assert client.base_url == "https://orders"
        assert client.headers["X-A"] == "b"
        assert client.timeout.read == 3
        assert client.follow_redirects
        assert not client.trust_env

    def test_environment(self, make, monkeypatch):
        """Proxies and certificates of the environment are not looked at."""
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://localhost:1")
        monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
        assert make()._mounts == {}

    def test_volume_that_is_not_there_yet(self, make, monkeypatch):
        """A client may be made before its volume exists: it is opened with the first request."""
        monkeypatch.setenv("KUBETLS_DIR", "/nowhere")
        make(source=None)


class TestChoice:
    def test_preferred_library(self):
        """The package's own names are those of httpx2 when it is installed."""
        import kubetls_sdk.client
        from kubetls_sdk.client import AsyncClient, Client
        from kubetls_sdk.client import httpx2 as preferred

        assert (Client, AsyncClient) == (preferred.Client, preferred.AsyncClient)
        with pytest.raises(AttributeError, match="Server"):
            _ = kubetls_sdk.client.Server

    def test_other_library(self, monkeypatch):
        """Without httpx2 they are those of httpx."""
        import kubetls_sdk.client
        from kubetls_sdk.client import httpx as other

        monkeypatch.setattr(kubetls_sdk.client, "find_spec", lambda name: name == "httpx" or None)
        assert kubetls_sdk.client.Client is other.Client

    def test_no_library(self, monkeypatch):
        """Without either the error says what to install."""
        import kubetls_sdk.client

        monkeypatch.setattr(kubetls_sdk.client, "find_spec", lambda name: None)
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'kubetls-sdk\[httpx2\]'"):
            _ = kubetls_sdk.client.Client


POISONED = """
import ssl

def poison(*args, **kwargs):
    raise AssertionError("the web roots were asked for")

ssl.SSLContext.load_default_certs = ssl.SSLContext.set_default_verify_paths = poison
ssl.create_default_context = ssl._create_default_https_context = poison

import asyncio
from kubetls_sdk import StaticSource, TrustBundleSet
from kubetls_sdk.testing import DevelopmentCA
from kubetls_sdk.client.{library} import AsyncClient, Client
import {library}

ca = DevelopmentCA("example.org")
source = StaticSource(ca.issue(), TrustBundleSet([ca.bundle]))

with Client(server="spiffe://example.org/x", source=source) as client:
    try:
        client.get("https://localhost:1")
    except {library}.ConnectError:
        pass

async def main():
    async with AsyncClient(server="spiffe://example.org/x", source=source) as client:
        try:
            await client.get("https://localhost:1")
        except {library}.ConnectError:
            print("done")

asyncio.run(main())
"""


class TestWebRoots:
    @pytest.mark.parametrize("library", ["httpx", "httpx2"])
    def test_are_never_loaded(self, library):
        """In a fresh process nothing asks for the web roots, from import to request."""
        ran = subprocess.run(
            [sys.executable, "-c", POISONED.format(library=library)],
            env={**os.environ, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (ran.stdout, ran.stderr) == ("done\n", "")


class TestContext:
    @pytest.mark.parametrize("http2", [False, True])
    def test_is_built_once(self, make, module, http2, monkeypatch):
        """What the transport sets on its context is set already: a first request builds once."""
        import asyncio

        from kubetls_sdk._inner_context import InnerContext

        built = []
        build = InnerContext.build
        monkeypatch.setattr(
            InnerContext,
            "build",
            lambda *args, **options: built.append(1) or build(*args, **options),
        )
        client = make(http2=http2)
        library = importlib.import_module(module.__name__.rpartition(".")[2])
        is_sync = isinstance(client, library.Client)
        with pytest.raises(library.ConnectError):
            client.get("https://localhost:1") if is_sync else asyncio.run(
                client.get("https://localhost:1")
            )
        assert built == [1]


class TestWithoutHttptools:
    def test_library_transport(self, monkeypatch, kubetls_source):
        """Without httptools the library's own transport carries async requests."""
        import asyncio

        import httpx2

        from kubetls_sdk._context import client_context
        from kubetls_sdk.expectation import expected_peer

        monkeypatch.setattr(_inner_transport, "_HAS_HTTPTOOLS", False)
        context = client_context(kubetls_source(ca=CA), expect=expected_peer(ORDERS))

        async def main():
            return _inner_transport.AsyncInnerTransport(httpx2, context, {})._ours

        assert asyncio.run(main()) is None
