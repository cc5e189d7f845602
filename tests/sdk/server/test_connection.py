# SPDX-License-Identifier: Apache-2.0
"""A connection, and the check of each of its requests."""

from __future__ import annotations

import time

import pytest

from kubetls_sdk import Snapshot, TrustBundleSet
from kubetls_sdk.authz import PolicySet
from kubetls_sdk.exceptions import SourceClosedError
from kubetls_sdk.server import connection as connection_module
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.connection import EXTENSION, _cipher_suite, _shared, with_connection
from tests.sdk.server.scopes import Recorder, World, call, http_scope


@pytest.fixture
def world():
    return World()


class TestRefusal:
    def test_living(self, world):
        """A peer whose root is trusted and whose certificate is valid is served."""
        assert world.connection().refusal() is None

    def test_expired(self, world):
        """From its expiry on it is refused, also without a new generation."""
        connection = world.connection()
        expiry = world.svid.not_after.timestamp()
        assert connection.refusal(expiry) is None
        assert "expired at" in connection.refusal(expiry + 1)

    def test_removed_root(self, world):
        """With its root gone it is refused."""
        connection = world.connection()
        world.distrust()
        assert "root was removed" in connection.refusal()

    def test_a_refusal_is_for_good(self, world):
        """A connection that was refused is not served again when the root comes back."""
        connection = world.connection()
        world.distrust()
        connection.refusal()
        world.source.replace(bundles=TrustBundleSet([world.ca.bundle]))
        assert connection.refusal() is not None

    def test_other_generations(self, world):
        """A new SVID of ours and more roots are no reason."""
        connection = world.connection()
        world.ca.add_root()
        bundles = TrustBundleSet([world.ca.bundle])
        world.source.replace(svid=world.ca.issue("/ns/shop/sa/orders"), bundles=bundles)
        assert connection.refusal() is None
        assert connection.generation == 2

    def test_full_check_once_a_generation(self, world, monkeypatch):
        """The bundles are looked at once a generation, not at each request."""
        connection = world.connection()
        world.source.replace(svid=world.ca.issue("/ns/shop/sa/orders"))
        assert connection.refusal() is None
        monkeypatch.setattr("kubetls_sdk.server.connection.recheck", None)
        assert connection.refusal() is None

    def test_anonymous(self, world):
        """An anonymous client proved nothing that could end."""
        connection = world.connection(None)
        world.distrust()
        assert connection.refusal(time.time() + 1e9) is None
        assert connection.generation == 2

    def test_closed_source(self, world):
        """Without credentials of our own nobody is served."""

        class Closed:
            @property
            def snapshot(self) -> Snapshot:
                raise SourceClosedError("the source was closed")

        connection = world.connection()
        connection.source = Closed()
        assert "the source was closed" in connection.refusal()


class TestTerminate:
    def test_once(self, world):
        """WebSockets are closed and the transport is ended, once."""
        connection, calls = world.connection(), []
        connection.websockets.add(calls.append)
        connection.end = calls.append
        connection.terminate("expired")
        connection.terminate("expired")
        assert calls == ["expired", True]
        assert connection.is_ended

    def test_without_websockets(self, world):
        """The server is told that nobody says goodbye."""
        connection, calls = world.connection(), []
        connection.end = calls.append
        connection.terminate("expired")
        assert calls == [False]


class TestScope:
    def test_other_extensions_stay(self, world):
        """The connection is added to what the server's scope has; nothing is shared by requests."""
        connection, tls, seen = world.connection(), {"tls_version": 1}, []
        app = with_connection(lambda scope, *_: seen.append(scope), tls, connection)
        app({"extensions": {"http.response.trailers": {}}}, None, None)
        app({}, None, None)
        assert seen[0]["extensions"] == {
            "http.response.trailers": {},
            "tls": tls,
            EXTENSION: connection,
        }
        assert seen[1]["extensions"] == {"tls": tls, EXTENSION: connection}


class TestCipherSuite:
    @pytest.mark.parametrize(
        ("number", "name"),
        [
            (0x1301, "TLS_AES_128_GCM_SHA256"),
            (0x1302, "TLS_AES_256_GCM_SHA384"),
            (0x1303, "TLS_CHACHA20_POLY1305_SHA256"),
            (0xC02B, "ECDHE-ECDSA-AES128-GCM-SHA256"),
            (None, "of-the-future"),
        ],
    )
    def test_numbers(self, number, name):
        """OpenSSL's names have the numbers of IANA."""
        assert _cipher_suite((name, "TLSv1.3", 256)) == number

    def test_none(self):
        """No cipher has no number."""
        assert _cipher_suite(None) is None


class TestSharedTexts:
    """Connections of a peer share the texts of its certificate; none is kept for ever."""

    def test_equal_texts_are_one_object(self):
        """Also of texts that were made apart."""
        assert _shared("".join(["PE", "M"])) is _shared("".join(["P", "EM"]))

    def test_bounded(self):
        """Peers rotate: old texts go, and long ones, which a peer can make up, are not kept."""
        for number in range(3000):
            _shared(f"certificate {number}")
        assert len(connection_module._texts) <= connection_module._MAX_SHARED
        before = len(connection_module._texts)
        _shared("x" * 9000)
        assert len(connection_module._texts) == before


class TestWhoIsBound:
    """Only the middleware itself is bound to a connection; whoever asks more is always asked."""

    @pytest.fixture
    def asked(self):
        return []

    def requests(self, world, app):
        """Three equal requests, which the policy allows without looking at them closely."""
        bound = with_connection(app, {}, world.connection())
        for _ in range(3):
            assert call(bound, http_scope())[0]["status"] == 204

    @pytest.fixture
    def policy(self, world):
        rule = "{name: web, from: {namespace: shop}, to: {methods: GET, paths: '/orders/{id}'}}"
        text = f"version: 1\npolicies: [{{name: orders, allow: [{rule}]}}]"
        return PolicySet.parse({"p": text}, trust_domain=world.ca.trust_domain)

    def test_subclass(self, world, policy, asked):
        """A subclass with checks of its own."""

        class Stricter(KubeTLSMiddleware):
            async def __call__(self, scope, receive, send):
                asked.append(scope["path"])
                await super().__call__(scope, receive, send)

        self.requests(world, Stricter(Recorder(), policy=policy))
        assert len(asked) == 3

    def test_wrapper_that_passes_attributes_on(self, world, policy, asked):
        """Another middleware around ours, which looks like it."""

        class Wrapper:
            def __init__(self, app):
                self.app = app

            def __getattr__(self, name):
                return getattr(self.app, name)

            async def __call__(self, scope, receive, send):
                asked.append(scope["path"])
                await self.app(scope, receive, send)

        self.requests(world, Wrapper(KubeTLSMiddleware(Recorder(), policy=policy)))
        assert len(asked) == 3
