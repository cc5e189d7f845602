# SPDX-License-Identifier: Apache-2.0
"""The SPIFFE bundle document, written and read; what others write is in the fetch tests."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.exceptions import BundleError
from kubetls_sdk.federation.bundle_document import parse_bundle, parse_document, to_jwks
from kubetls_sdk.testing import DevelopmentCA

CA = DevelopmentCA("partner.example")
TEXT = to_jwks(CA.bundle, sequence=3, refresh_hint=300)


class TestToJwks:
    @pytest.mark.parametrize("key_type", ["p256", "p384", "ed25519", "rsa2048"])
    def test_round_trip(self, key_type):
        """What is written is read again, with every kind of key."""
        ca = DevelopmentCA("partner.example", key_type=key_type)
        ca.add_root()
        found = parse_document(ca.trust_domain, to_jwks(ca.bundle, sequence=1, refresh_hint=2))
        assert found.bundle.authorities == ca.bundle.authorities
        assert (found.bundle.sequence, found.bundle.refresh_hint, found.ignored) == (1, 2, 0)

    @pytest.mark.parametrize("key_type", ["p256", "p384", "ed25519", "rsa2048"])
    def test_key_parameters(self, key_type):
        """The key itself is there too, for readers that take it from there (RFC 7517)."""
        import jwt

        ca = DevelopmentCA("partner.example", key_type=key_type)
        (entry,) = json.loads(to_jwks(ca.bundle, sequence=None, refresh_hint=None))["keys"]
        key = jwt.PyJWK(entry, algorithm="RS256" if key_type == "rsa2048" else None).key
        ours = ca.authority.public_key()
        assert (
            key.public_numbers() == ours.public_numbers()
            if isinstance(ours, rsa.RSAPublicKey)
            else key == ours
        )

    def test_entry(self):
        """An entry has exactly one certificate and no key ID (X509-SVID §6.2)."""
        document = json.loads(TEXT)
        (entry,) = document["keys"]
        assert entry["use"] == "x509-svid"
        assert len(entry["x5c"]) == 1
        assert "kid" not in entry
        assert (document["spiffe_sequence"], document["spiffe_refresh_hint"]) == (3, 300)

    def test_jwt_keys(self):
        """Keys of JWT-SVIDs go through as they are."""
        key = {"kty": "EC", "use": "jwt-svid", "kid": "a", "crv": "P-256", "x": "x", "y": "y"}
        bundle = TrustBundle(CA.trust_domain, (), jwt_authorities={"a": key})
        found = parse_document(CA.trust_domain, to_jwks(bundle, sequence=None, refresh_hint=None))
        assert found.bundle.jwt_authorities == {"a": key}

    def test_nobody(self):
        """A bundle without keys has an empty list: it has to be there (§4.1.3)."""
        text = to_jwks(TrustBundle(CA.trust_domain, ()), sequence=None, refresh_hint=None)
        assert json.loads(text) == {"keys": []}


class TestParse:
    def test_kinds_of_files(self):
        """A bundle file is PEM or a document, told apart by its content."""
        for text in (TEXT, CA.bundle.to_pem()):
            assert parse_bundle(CA.trust_domain, text).authorities == CA.bundle.authorities

    @pytest.mark.parametrize("text", [TEXT, CA.bundle.to_pem()], ids=["document", "PEM"])
    def test_other_domain(self, text):
        """An authority that says it is another domain's is in the wrong file."""
        other = DevelopmentCA("other.example").trust_domain
        with pytest.raises(BundleError, match=r"expected authorities of 'spiffe://other\.example'"):
            parse_bundle(other, text)

    @pytest.mark.filterwarnings("ignore:Parsed a serial number")
    @given(st.integers(0, len(TEXT)), st.binary(max_size=4))
    def test_mutations(self, at, text):
        """Any change of the text is a bundle of that domain or an error of ours."""
        try:
            found = parse_document(CA.trust_domain, TEXT[:at] + text + TEXT[at + len(text) :])
        except BundleError:
            return
        assert found.bundle.trust_domain == CA.trust_domain
        assert len(found.bundle) <= 1

    @given(st.binary(max_size=200))
    def test_noise(self, text):
        """Noise is an error of ours."""
        with pytest.raises(BundleError):
            parse_document(CA.trust_domain, text)
