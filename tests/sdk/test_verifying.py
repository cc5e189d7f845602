# SPDX-License-Identifier: Apache-2.0
"""Methods that an event loop keeps of a TLS object from before its handshake, as uvloop does."""

from __future__ import annotations

import gc
import weakref

import pytest

from kubetls_sdk import PeerVerificationError, StaticSource, TrustBundleSet
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
