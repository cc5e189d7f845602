# SPDX-License-Identifier: Apache-2.0
"""Header fields that claim an identity."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubetls_sdk.server import identity_headers
from kubetls_sdk.server.identity_headers import inspect_headers, without_identity

CLAIMS = [
    b"x-forwarded-client-cert", b"X-Forwarded-Client-Cert", b"x_forwarded_client_cert",
    b"x-forwarded-client-cert-chain", b"x-forwarded-tls-client-cert",
    b"x-forwarded-tls-client-cert-info", b"x-spiffe-id", b"x-spiffe", b"x-client-cert",
    b"x-client-certificate", b"X-Client-Cert-Subject", b"client-cert", b"client-cert-chain",
    b"ssl-client-cert", b"x-ssl-client-verify", b"x-ssl-cert", b"x-arr-clientcert",
    b"x-amzn-mtls-clientcert", b"dapr-caller-app-id", b"x-caller-id",
    b"X_FORWARDED_CLIENT_CERT", b"x-forwarded_client-cert", b"Client_Cert", b"CLIENT-CERT-CHAIN",
    b"x-\xdfl-client-cert", b"client-cert\n", b"x-forwarded-client-cert ",
]  # fmt: skip
HONEST = [
    b"accept", b"authorization", b"x-request-id", b"x-forwarded-for", b"content-type", b"cookie",
    b"x-certainty", b"x-caller-mood", b"spiffe-like-not", b"sec-websocket-key",
]  # fmt: skip


class TestWithoutIdentity:
    @pytest.mark.parametrize("name", CLAIMS)
    def test_claims(self, name):
        """Every field by which a proxy tells an identity is removed, in any spelling."""
        assert without_identity([(name, b"spiffe://example.org/admin"), (b"host", b"a")]) == [
            (b"host", b"a")
        ]

    @pytest.mark.parametrize("name", [name for name in HONEST if b"spiffe" not in name])
    def test_others_stay(self, name):
        """Other fields stay, in their order and with their duplicates."""
        fields = [(name, b"1"), (b"host", b"a"), (name, b"2")]
        assert without_identity(fields) == fields

    @given(st.lists(st.tuples(st.binary(max_size=80), st.binary(max_size=8))))
    def test_only_removes(self, fields):
        """Whatever is sent, the result is part of it."""
        kept = without_identity(fields)
        remaining = iter(fields)
        assert all(field in remaining for field in kept)


class TestInspect:
    @pytest.mark.parametrize("name", [b"transfer-encoding", b"x-spiffe-id"])
    def test_list_of_its_own(self, name):
        """Where trailers may follow, the application has a list that no server appends to."""
        for _ in range(2):
            fields = [(b"host", b"a"), (name, b"chunked")]
            scope = {"headers": fields}
            inspect_headers(scope)
            fields.append((b"x-spiffe-id", b"spiffe://example.org/admin"))
            assert b"x-spiffe-id" not in dict(scope["headers"])

    def test_clean_request(self):
        """A request that claims nothing keeps the very same list."""
        fields = [(b"host", b"a"), (b"accept", b"*/*"), (b"x-request-id", b"1")]
        for _ in range(2):
            scope = {"headers": fields}
            assert inspect_headers(scope) == 1
            assert scope["headers"] == fields

    @pytest.mark.parametrize("count", [0, 1, 2, 3])
    def test_hosts(self, count):
        """All Host fields are counted, beside claims too."""
        scope = {"headers": [(b"host", b"a")] * count + [(b"x-spiffe-id", b"x")]}
        assert inspect_headers(scope) == count
        assert scope["headers"] == [(b"host", b"a")] * count

    def test_memory(self, monkeypatch):
        """Made-up names are not remembered without end."""
        monkeypatch.setattr(identity_headers, "HARMLESS", set())
        for number in range(5000):
            inspect_headers({"headers": [(b"x-%d" % number, b"")]})
        inspect_headers({"headers": [(b"host", b"a")]})
        assert len(identity_headers.HARMLESS) == 1024
        assert b"host" not in identity_headers.HARMLESS
