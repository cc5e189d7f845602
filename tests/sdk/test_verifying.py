# SPDX-License-Identifier: Apache-2.0
"""What a TLS object lets through before its handshake is complete, and what it remembers after."""

from __future__ import annotations

import gc
import weakref

import pytest

from kubetls_sdk import (
    PeerUnauthorizedError,
    PeerVerificationError,
    StaticSource,
    TrustBundle,
    TrustBundleSet,
    TrustDomain,
    _inner_context,
)
from kubetls_sdk._context import client_context, server_context
from kubetls_sdk.expectation import AnyTrusted
from kubetls_sdk.testing import DevelopmentCA
from tests.handshaking import Handshake, stock_client

CA = DevelopmentCA("example.org")
STRANGER = DevelopmentCA("stranger.example")


@pytest.fixture(scope="module")
def source():
    return StaticSource(CA.issue(), TrustBundleSet([CA.bundle]))


class TestKeptMethods:
    def test_read_into_a_buffer(self, source):
        """A kept `read` fills a buffer as the ssl module's does."""
        shake = Handshake(client_context(source, expect=AnyTrusted()), server_context(source))
        read, buffer = shake.server.read, bytearray(8)
        shake.finish()
        shake.client.write(b"hello")
        assert (read(8, buffer), bytes(buffer[:5])) == (5, b"hello")

    def test_refused_peer(self, source):
        """After a refusal they refuse for ever, although the peer has sent data."""
        server = server_context(source)
        shake = Handshake(stock_client(STRANGER.issue()), server)
        read, write = shake.server.read, shake.server.write
        shake.finish()
        assert isinstance(shake.server_error, PeerVerificationError)
        shake.client.write(b"GET / HTTP/1.1\r\n\r\n")
        for call in (lambda: read(1), lambda: read(1, bytearray(1)), lambda: write(b"x")):
            with pytest.raises(PeerVerificationError, match="before the handshake"):
                call()

    def test_unfinished_check(self, source, monkeypatch):
        """They refuse when OpenSSL's handshake is complete and our check of the peer is not."""
        server = server_context(source)
        shake = Handshake(client_context(source, expect=AnyTrusted()), server)
        read, tried = shake.server.read, []

        def during(_):
            with pytest.raises(PeerVerificationError, match="before the handshake"):
                read(1)
            tried.append(shake.server.version())

        monkeypatch.setattr(type(shake.server), "_verify_peer", during)
        shake.finish()
        assert tried[-1] == "TLSv1.3"

    def test_no_cycle(self, source):
        """An object goes with its last reference, without the garbage collector."""
        shake = Handshake.run(client_context(source, expect=AnyTrusted()), server_context(source))
        gone = weakref.ref(shake.server)
        gc.disable()
        try:
            del shake.server
            assert gone() is None
        finally:
            gc.enable()


class TestRemembered:
    def test_connections_of_a_peer_share_its_certificate(self, source):
        """The second connection of a peer parses nothing."""
        contexts = client_context(source, expect=AnyTrusted()), server_context(source)
        first, second = (Handshake.run(*contexts).server.verified_peer for _ in range(2))
        assert first is second

    def test_another_peer(self, source):
        """Another certificate of the same identity is another peer."""
        server = server_context(source)
        first, second = (Handshake.run(_client(), server).server.verified_peer for _ in range(2))
        assert first.spiffe_id == second.spiffe_id
        assert first.leaf != second.leaf

    def test_nothing_outlives_its_generation(self):
        """A peer whose root moved to another domain's bundle is refused, though lately accepted."""
        serving = StaticSource(CA.issue(), TrustBundleSet([CA.bundle]))
        server, caller = server_context(serving), _client()
        assert Handshake.run(caller, server).succeeded
        moved = TrustBundle(TrustDomain("partner.example"), CA.bundle.authorities)
        serving.replace(bundles=TrustBundleSet([moved]))
        refused = Handshake.run(caller, server).server_error
        assert isinstance(refused, PeerVerificationError)

    def test_expectation_is_asked_each_time(self, source):
        """Who is remembered as authenticated is not thereby the one that was asked for."""
        caller, once = _client(), _Once()
        server = server_context(source, expect=once)
        assert Handshake.run(caller, server).succeeded
        assert isinstance(Handshake.run(caller, server).server_error, PeerUnauthorizedError)

    def test_bounded(self, source, monkeypatch):
        """Many peers do not fill the memory."""
        monkeypatch.setattr(_inner_context, "_REMEMBERED", 3)
        server = server_context(source)
        for _ in range(8):
            Handshake.run(_client(), server)
            assert len(server._current()._peers) <= 3


class _Once:
    """Expects everybody the first time, and nobody after that."""

    def __init__(self):
        self._answers = iter([True])

    def is_met_by(self, _, *, own):
        return next(self._answers, False)


def _client():
    return client_context(
        StaticSource(CA.issue(), TrustBundleSet([CA.bundle])), expect=AnyTrusted()
    )
