# SPDX-License-Identifier: Apache-2.0
"""`Client-Cert` and `Client-Cert-Chain`, by RFC 9440."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from kubetls_sdk.server._client_cert import read_client_cert
from kubetls_sdk.server._forwarded_certificate import MAX_LENGTH, MalformedFieldError
from kubetls_sdk.testing import DevelopmentCA

SVID = DevelopmentCA("example.org").issue("/ns/shop/sa/phone", intermediates=2)


def sequence(certificate):
    return b":" + base64.b64encode(certificate.public_bytes(Encoding.DER)) + b":"


LEAF, FIRST, SECOND = [sequence(certificate) for certificate in SVID.chain]


class TestValid:
    @pytest.mark.parametrize(
        ("leaf", "chain", "length"),
        [
            pytest.param(LEAF, [], 1, id="alone"),
            pytest.param(b" \t" + LEAF + b" ", [], 1, id="space-around"),
            pytest.param(LEAF, [FIRST + b", " + SECOND], 3, id="list"),
            pytest.param(LEAF, [FIRST + b"\t,\t" + SECOND], 3, id="tabs"),
            pytest.param(LEAF, [FIRST, SECOND], 3, id="two-fields-are-a-list"),
        ],
    )
    def test_forms(self, leaf, chain, length):
        """A byte sequence, and a list of them, in the order in which they came."""
        assert read_client_cert([leaf], chain) == SVID.chain[:length]


class TestMalformed:
    @pytest.mark.parametrize(
        ("leaf", "chain"),
        [
            pytest.param([], [], id="nothing"),
            pytest.param([], [FIRST], id="chain-without-certificate"),
            pytest.param([LEAF, LEAF], [], id="twice"),
            pytest.param([LEAF + b", " + LEAF], [], id="list-of-certificates"),
            pytest.param([b""], [], id="empty"),
            pytest.param([b"::"], [], id="empty-sequence"),
            pytest.param([LEAF[1:-1]], [], id="no-colons"),
            pytest.param([LEAF[:-1]], [], id="cut-off"),
            pytest.param([LEAF + b";v=1"], [], id="parameter"),
            pytest.param([b'"' + LEAF[1:-1] + b'"'], [], id="text"),
            pytest.param([b":-_-_:"], [], id="alphabet-of-urls"),
            pytest.param([b":AAAAA:"], [], id="no-padding"),
            pytest.param([LEAF[:40] + b"\r\n " + LEAF[40:]], [], id="folded"),
            pytest.param([b":AAAA:"], [], id="no-certificate"),
            pytest.param([LEAF[:-21] + b":"], [], id="half-a-certificate"),
            pytest.param([LEAF], [b""], id="empty-chain"),
            pytest.param([LEAF], [FIRST + b","], id="comma-at-the-end"),
            pytest.param([LEAF], [FIRST, b":AAAA:"], id="no-certificate-in-chain"),
            pytest.param([LEAF], [b",".join([FIRST] * 10)], id="eleven-certificates"),
            pytest.param([b":" + b"A" * MAX_LENGTH + b":"], [], id="too-long"),
        ],
    )
    def test_refused(self, leaf, chain):
        """Whatever is not by the standard is an error, and the error does not quote it."""
        with pytest.raises(MalformedFieldError) as caught:
            read_client_cert(leaf, chain)
        assert len(str(caught.value)) < 120

    @given(
        st.lists(st.binary(max_size=200), max_size=3), st.lists(st.binary(max_size=200), max_size=3)
    )
    def test_noise(self, leaf, chain):
        """Nothing but its own error comes out, whatever goes in."""
        with pytest.raises(MalformedFieldError):
            read_client_cert(leaf, chain)

    @given(st.integers(0, len(LEAF) - 1), st.binary(max_size=3))
    def test_mutation(self, position, text):
        """A value with a change somewhere is read or refused, never anything else."""
        changed = LEAF[:position] + text + LEAF[position + 1 :]
        try:
            (found,) = read_client_cert([changed], [])
        except MalformedFieldError:
            return
        assert sequence(found).strip() == changed.strip() or found != SVID.leaf
