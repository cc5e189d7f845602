# SPDX-License-Identifier: Apache-2.0
"""Which key exchange two of our contexts agree on, read from the bytes of the ServerHello."""

from __future__ import annotations

import ssl

import pytest

from kubetls_sdk import StaticSource, TrustBundleSet
from kubetls_sdk._context import client_context, server_context
from kubetls_sdk.expectation import AnyTrusted
from kubetls_sdk.testing import DevelopmentCA
from tests.handshaking import Handshake

X25519, X25519_MLKEM768 = 0x001D, 0x11EC
HAS_POST_QUANTUM = ssl.OPENSSL_VERSION_INFO >= (3, 5)
_SERVER_HELLO, _KEY_SHARE = 2, 51


@pytest.fixture
def server_hello():
    """The first record that a server of ours sends to a client of ours."""
    ca = DevelopmentCA("example.org")
    source = StaticSource(ca.issue(), TrustBundleSet([ca.bundle]))
    shake = Handshake(client_context(source, expect=AnyTrusted()), server_context(source))
    shake.step_client()
    shake.step_server()
    return shake.to_client.read()


class TestGroup:
    @pytest.mark.skipif(not HAS_POST_QUANTUM, reason="OpenSSL has no ML-KEM before 3.5")
    def test_post_quantum(self, server_hello):
        """Where OpenSSL has it, the hybrid of X25519 and ML-KEM-768 is used, without asking."""
        assert _group(server_hello) == X25519_MLKEM768

    @pytest.mark.skipif(HAS_POST_QUANTUM, reason="OpenSSL 3.5 and newer has something better")
    def test_classic(self, server_hello):
        """Elsewhere it is X25519."""
        assert _group(server_hello) == X25519


def _group(record):
    """Spec: RFC 8446 §4.1.3, §4.2.8."""
    hello = record[5:]  # behind the header of the record
    assert hello[0] == _SERVER_HELLO
    at = 4 + 2 + 32  # header, version, random
    at += 1 + hello[at]  # session ID
    at += 2 + 1  # cipher suite, compression
    end = at + 2 + int.from_bytes(hello[at : at + 2], "big")
    at += 2
    while at < end:
        kind, length = (int.from_bytes(hello[at + i : at + i + 2], "big") for i in (0, 2))
        if kind == _KEY_SHARE:
            return int.from_bytes(hello[at + 4 : at + 6], "big")
        at += 4 + length
    raise AssertionError("expected a key share")
