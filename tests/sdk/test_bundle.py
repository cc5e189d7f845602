# SPDX-License-Identifier: Apache-2.0
"""Trust bundles: sets of authorities, one per trust domain, from PEM or JWKS."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk import BundleError, TrustBundle, TrustBundleSet, TrustDomain
from kubetls_sdk.testing import DevelopmentCA
from tests import chains as plans

DOMAIN = TrustDomain("example.org")


@pytest.fixture(scope="module")
def authorities() -> tuple[x509.Certificate, ...]:
    return tuple(DevelopmentCA().authority for _ in range(3))


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def jwk(certificate: x509.Certificate, **changes: Any) -> dict[str, Any]:
    """An x509-svid entry; None removes a member."""
    der = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
    entry = {"kty": "EC", "use": "x509-svid", "x5c": [der], **changes}
    return {name: value for name, value in entry.items() if value is not None}


def jwks(*keys: Any, **members: Any) -> bytes:
    return json.dumps({"keys": keys, **members}).encode()


class TestTrustBundle:
    """A set of CA certificates of one trust domain."""

    def test_ignores_order_and_duplicates(self, authorities) -> None:
        """The kubelet shuffles the file on purpose: that is no change."""
        one = TrustBundle(DOMAIN, authorities)
        other = TrustBundle(DOMAIN, (*reversed(authorities), authorities[1]))
        assert one == other
        assert hash(one) == hash(other)
        assert one.authorities == other.authorities
        assert len(other) == 3

    def test_differs_by_domain_and_content(self, authorities) -> None:
        """The same authorities in another domain are another bundle."""
        one = TrustBundle(DOMAIN, authorities)
        assert one != TrustBundle(TrustDomain("other.test"), authorities)
        assert one != TrustBundle(DOMAIN, authorities[:2])
        assert one != TrustBundle(DOMAIN, authorities, sequence=1)
        assert one != authorities

    def test_may_be_empty(self) -> None:
        """An empty bundle is legal and trusts nobody."""
        empty = TrustBundle(DOMAIN, ())
        assert len(empty) == 0
        assert empty.to_pem() == b""
        assert empty.authority(b"") is None

    def test_finds_an_authority_by_its_encoding(self, authorities) -> None:
        """Exactly that certificate, not one of the same name or key."""
        bundle = TrustBundle(DOMAIN, authorities[:2])
        inside, outside = (each.public_bytes(Encoding.DER) for each in authorities[1:])
        assert inside in bundle
        assert bundle.authority(inside) == authorities[1]
        assert outside not in bundle
        assert bundle.authority(outside) is None

    def test_refuses_a_leaf(self) -> None:
        """A leaf in a bundle would vouch for itself."""
        with pytest.raises(BundleError, match="expected a CA as authority of"):
            TrustBundle(DOMAIN, (DevelopmentCA().issue().leaf,))

    def test_refuses_an_authority_that_cannot_be_read(self) -> None:
        """Whatever the parser raises comes out as an error of the bundle."""
        plan = plans.straight_plan(random.Random(1), 0)  # noqa: S311
        value = plans.der(0x30, plans.der(0xA3, b"\x30\x00"))
        plan.certificates[0].put(x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, value))
        broken = plan.certificates[0].signed_by(plan.certificates[0])
        with pytest.raises(BundleError, match="malformed"):
            TrustBundle(DOMAIN, (x509.load_der_x509_certificate(broken),))

    def test_repr_is_short(self, authorities) -> None:
        """Domain and count."""
        assert repr(TrustBundle(DOMAIN, authorities)) == "<TrustBundle example.org authorities=3>"


class TestFromPem:
    """PEM text: certificates only."""

    def test_gives_back_what_was_written(self, authorities) -> None:
        """Text and value are inverse."""
        bundle = TrustBundle(DOMAIN, authorities)
        assert TrustBundle.from_pem(DOMAIN, bundle.to_pem()) == bundle

    @pytest.mark.parametrize("text", [b"", b"\n", b" \r\n\t\n"], ids=repr)
    def test_blank_text_is_an_empty_bundle(self, text: bytes) -> None:
        """Readable and empty: a removal."""
        assert len(TrustBundle.from_pem(DOMAIN, text)) == 0

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda text: b"hello", "CERTIFICATE blocks or an empty file"),
            (lambda text: text[:-40], "cut off"),
            (lambda text: text + b"-----BEGIN CERT", "malformed BEGIN"),
            (lambda text: b"-----BEGIN CERTIFICATE ---\n" + text, "malformed BEGIN"),
            (lambda text: text.replace(b"CERTIFICATE", b"X"), "CERTIFICATE as block 1, got 'X'"),
            (lambda text: text.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"), "TRUSTED"),
            (lambda text: text + DevelopmentCA().issue().private_key_pem(), "'PRIVATE KEY'"),
            (lambda text: text.replace(b"MII", b"AII", 1), "expected an X.509 certificate"),
        ],
    )
    def test_refuses_other_text(self, authorities, change, message: str) -> None:
        """One bad block spoils the file: no authority is dropped silently."""
        with pytest.raises(BundleError, match=message):
            TrustBundle.from_pem(DOMAIN, change(pem(*authorities)))

    def test_refuses_every_truncation(self, authorities) -> None:
        """A half-written file is an error or a set of whole authorities, never a broken one."""
        text = pem(*authorities)
        for length in range(1, len(text)):
            try:
                bundle = TrustBundle.from_pem(DOMAIN, text[:length])
            except BundleError:
                continue
            assert set(bundle.authorities) <= set(authorities)
            assert text[:length].rstrip().endswith(b"-----END CERTIFICATE-----")


class TestFromJwks:
    """SPIFFE bundle documents."""

    def test_reads_authorities_and_parameters(self, authorities) -> None:
        """Sequence, refresh hint, X.509 and JWT authorities."""
        jwt = {"kty": "EC", "use": "jwt-svid", "kid": "k1", "crv": "P-256", "x": "", "y": ""}
        text = jwks(*map(jwk, authorities), jwt, spiffe_sequence=7, spiffe_refresh_hint=300)
        bundle = TrustBundle.from_jwks(DOMAIN, text)
        assert set(bundle.authorities) == set(authorities)
        assert (bundle.sequence, bundle.refresh_hint) == (7, 300)
        assert dict(bundle.jwt_authorities) == {"k1": jwt}

    def test_without_keys_is_empty(self) -> None:
        """An empty `keys` revokes everything."""
        assert len(TrustBundle.from_jwks(DOMAIN, jwks())) == 0

    @pytest.mark.parametrize(
        "changes",
        [{"use": None}, {"use": "sig"}, {"use": 7}, {"kty": None}, {"use": "wit-svid"}],
        ids=str,
    )
    def test_ignores_entries_of_other_uses(self, authorities, changes) -> None:
        """Spec §4.2: unknown and missing `use` or `kty` are skipped."""
        text = jwks(jwk(authorities[0]), jwk(authorities[1], **changes), "x", 7)
        assert TrustBundle.from_jwks(DOMAIN, text).authorities == authorities[:1]

    def test_takes_the_first_certificate_only(self, authorities) -> None:
        """Spec X509-SVID §6.2: further values of `x5c` are ignored."""
        two = [jwk(each)["x5c"][0] for each in authorities[:2]]
        bundle = TrustBundle.from_jwks(DOMAIN, jwks(jwk(authorities[0], x5c=two)))
        assert bundle.authorities == authorities[:1]

    @pytest.mark.parametrize(
        "x5c", [[], None, "AAAA", [7], ["!"], ["\u00e4"], ["AAAA"], [""], ["A"], {}], ids=repr
    )
    def test_refuses_a_malformed_entry(self, authorities, x5c) -> None:
        """An authority that cannot be read is an error, not one authority less."""
        with pytest.raises(BundleError):
            TrustBundle.from_jwks(DOMAIN, jwks(jwk(authorities[0], x5c=x5c)))

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b"7",
            b"{}",
            b'{"keys": null}',
            b'{"keys": {}}',
            b'{"keys": "x"}',
            b'{"keys": [], "keys": []}',
            b'{"keys": [{"kty": "EC", "kty": "RSA"}]}',
            b"\xff\xfe",
            b'{"keys": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
        ],
        ids=range(13),
    )
    def test_refuses_what_is_no_key_set(self, text: bytes) -> None:
        """Not JSON, no `keys`, or two members of one name."""
        with pytest.raises(BundleError):
            TrustBundle.from_jwks(DOMAIN, text)

    @pytest.mark.parametrize("name", ["spiffe_sequence", "spiffe_refresh_hint"])
    @pytest.mark.parametrize("value", [-1, 1.5, "1", True, 2**64, [], float("nan")], ids=repr)
    def test_refuses_other_numbers(self, name: str, value) -> None:
        """Non-negative 64-bit integers."""
        with pytest.raises(BundleError, match=name):
            TrustBundle.from_jwks(DOMAIN, jwks(**{name: value}))


class TestParse:
    """PEM and JWKS are told apart by content."""

    def test_tells_them_apart(self, authorities) -> None:
        """A brace begins a document; everything else is PEM."""
        bundle = TrustBundle(DOMAIN, authorities)
        assert TrustBundle.parse(DOMAIN, bundle.to_pem()) == bundle
        assert TrustBundle.parse(DOMAIN, b" \n" + jwks(*map(jwk, authorities))) == bundle
        assert len(TrustBundle.parse(DOMAIN, b"")) == 0
        with pytest.raises(BundleError):
            TrustBundle.parse(DOMAIN, b"[]")


class TestTrustBundleSet:
    """One bundle for each domain, never merged."""

    def test_maps_domains_to_bundles(self, authorities) -> None:
        """A mapping like any other."""
        one = TrustBundle(DOMAIN, authorities[:1])
        two = TrustBundle(TrustDomain("partner.example"), authorities[1:])
        bundles = TrustBundleSet([one, two])
        assert dict(bundles) == {DOMAIN: one, TrustDomain("partner.example"): two}
        assert set(bundles.authorities()) == set(authorities)
        assert bundles == TrustBundleSet([two, one])
        assert repr(bundles) == "<TrustBundleSet example.org, partner.example>"

    def test_finds_an_anchor_only_in_its_own_domain(self, authorities) -> None:
        """What another domain trusts does not count."""
        der = authorities[0].public_bytes(Encoding.DER)
        bundles = TrustBundleSet([TrustBundle(DOMAIN, authorities[:1])])
        assert bundles.anchor(DOMAIN, der) == authorities[0]
        assert bundles.anchor(TrustDomain("partner.example"), der) is None

    def test_refuses_two_bundles_of_one_domain(self, authorities) -> None:
        """Merging them would let either publisher speak for the other."""
        with pytest.raises(BundleError, match="expected one bundle of"):
            TrustBundleSet([TrustBundle(DOMAIN, ()), TrustBundle(DOMAIN, authorities)])
