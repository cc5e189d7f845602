# SPDX-License-Identifier: Apache-2.0
"""A connection, and the check of each of its requests."""

from __future__ import annotations

import time

import pytest

from kubetls_sdk import Snapshot, TrustBundleSet
from kubetls_sdk.exceptions import SourceClosedError
from kubetls_sdk.server.connection import EXTENSION, _cipher_suite, with_connection
from tests.sdk.server.scopes import World


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
