# SPDX-License-Identifier: Apache-2.0
"""The promises of the development CA."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from kubetls_sdk import (
    ConfigurationError,
    PeerVerificationError,
    SpiffeIdError,
    SvidError,
    TrustBundle,
    TrustBundleSet,
    X509Svid,
    verify_svid,
)
from kubetls_sdk.testing import KEY_TYPES, DevelopmentCA, name_constraints
from tests.sdk.testing.certificates import assert_is_authority, assert_is_svid_leaf, extension
from tests.sdk.testing.handshake import strict_handshake

NOW = datetime(2026, 11, 25, 12, 0, 0, 987654, tzinfo=UTC)


def proves(svid: X509Svid, *bundles: TrustBundle, now: datetime | None = None) -> str:
    """Who an SVID proves to be under these bundles."""
    at = now if now is not None else datetime.now(UTC)
    return str(verify_svid(svid.chain, bundles=TrustBundleSet(bundles), now=at).spiffe_id)


class TestIssue:
    @pytest.mark.parametrize("key_type", KEY_TYPES)
    @pytest.mark.parametrize("intermediates", [0, 2])
    def test_openssl_strict_accepts(self, key_type, intermediates, tmp_path) -> None:
        """An SVID of every key type passes X509_STRICT, directly or through intermediates."""
        ca = DevelopmentCA(key_type=key_type)
        svid = ca.issue(key_type=key_type, intermediates=intermediates)
        assert len(svid.chain) == 1 + intermediates
        strict_handshake(svid, ca.bundle, tmp_path)
        assert proves(svid, ca.bundle) == "spiffe://example.org/ns/shop/sa/web"

    def test_leaf_profile(self) -> None:
        """A leaf has every extension of the certificate profile and no other usage."""
        svid = DevelopmentCA("td.test").issue("/ns/a/sa/b", dns_names=["b.a.svc", "b.a"])
        assert_is_svid_leaf(svid.leaf, "spiffe://td.test/ns/a/sa/b", ["b.a.svc", "b.a"])

    def test_authority_profile(self) -> None:
        """Root and intermediate are CAs, named by the trust domain, and never authenticate."""
        ca = DevelopmentCA("td.test")
        svid = ca.issue(intermediates=1)
        assert_is_authority(ca.authority, "spiffe://td.test")
        assert_is_authority(svid.chain[1], "spiffe://td.test")

    @pytest.mark.parametrize(
        ("key_type", "kind"),
        [
            pytest.param("p256", ec.EllipticCurvePrivateKey, id="p256"),
            pytest.param("p384", ec.EllipticCurvePrivateKey, id="p384"),
            pytest.param("ed25519", ed25519.Ed25519PrivateKey, id="ed25519"),
            pytest.param("rsa2048", rsa.RSAPrivateKey, id="rsa2048"),
        ],
    )
    def test_key_type(self, key_type, kind) -> None:
        """The leaf's key is of the asked type and new each time."""
        ca = DevelopmentCA()
        one, other = ca.issue(key_type=key_type), ca.issue(key_type=key_type)
        assert isinstance(one.private_key, kind)
        assert one.leaf.public_key() != other.leaf.public_key()

    def test_times_are_whole_seconds_a_little_before_now(self) -> None:
        """Validity starts a minute early and ends after the ttl, without fractions."""
        svid = DevelopmentCA(now=NOW).issue(ttl=timedelta(minutes=5))
        assert svid.not_before == datetime(2026, 11, 25, 11, 59, tzinfo=UTC)
        assert svid.not_after == datetime(2026, 11, 25, 12, 5, tzinfo=UTC)

    def test_negative_ttl_is_expired(self) -> None:
        """A negative ttl makes an SVID that expired that long ago."""
        svid = DevelopmentCA(now=NOW).issue(ttl=-timedelta(hours=1))
        assert svid.not_after == datetime(2026, 11, 25, 11, 0, tzinfo=UTC)
        assert not svid.is_valid_at(NOW)
        assert svid.is_valid_at(NOW - timedelta(hours=1, seconds=30))

    def test_not_before_starts_the_ttl(self) -> None:
        """With `not_before`, the ttl counts from there."""
        start = NOW + timedelta(days=1)
        svid = DevelopmentCA(now=NOW).issue(not_before=start, ttl=timedelta(hours=2))
        assert svid.not_before == start.replace(microsecond=0)
        assert svid.not_after - svid.not_before == timedelta(hours=2)

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            pytest.param({"common_name": "x" * 64}, "x" * 64, id="given"),
            pytest.param({}, "web", id="end of the path"),
        ],
    )
    def test_common_name(self, options, expected) -> None:
        """The subject is the given name, or the end of the path."""
        subject = DevelopmentCA().issue(**options).leaf.subject
        assert subject.rfc4514_string() == f"CN={expected}"

    def test_long_account_name_is_cut(self) -> None:
        """A path whose end is longer than a common name may be is issued nevertheless."""
        svid = DevelopmentCA().issue("/ns/shop/sa/" + "a" * 70)
        assert svid.leaf.subject.rfc4514_string() == "CN=" + "a" * 64
        assert svid.spiffe_id.path.endswith("a" * 70)

    @pytest.mark.parametrize(
        "options",
        [
            pytest.param({"common_name": "x" * 65}, id="common name of 65"),
            pytest.param({"key_type": "p521x"}, id="unknown key type"),
            pytest.param({"intermediates": -1}, id="negative intermediates"),
            pytest.param({"ttl": timedelta.max}, id="ttl beyond the calendar"),
            pytest.param({"dns_names": ["bücher.example"]}, id="name that is not ASCII"),
        ],
    )
    def test_refuses_what_cannot_be_issued(self, options) -> None:
        """An option out of range is a configuration error."""
        with pytest.raises(ConfigurationError, match="expected"):
            DevelopmentCA().issue(**options)

    def test_refuses_a_path_that_is_none(self) -> None:
        """A path that is not of a SPIFFE ID is an error of its own."""
        with pytest.raises(SpiffeIdError):
            DevelopmentCA().issue("ns/shop")

    def test_issuer_names_differ(self) -> None:
        """Two roots and two intermediates never share a name, as their keys differ."""
        ca = DevelopmentCA()
        first = ca.authority
        ca.add_root()
        ca.activate_root()
        made = [first, ca.authority, ca.intermediate().certificate, ca.intermediate().certificate]
        assert len({certificate.subject for certificate in made}) == 4

    def test_root_of_the_longest_trust_domain(self) -> None:
        """A trust domain of 255 bytes has a CA as well."""
        name = "a" * 255
        svid = DevelopmentCA(name).issue()
        assert svid.spiffe_id.trust_domain.name == name


class TestIntermediate:
    def test_path_length_is_enforced(self, tmp_path) -> None:
        """A second intermediate below a path length of zero is refused, the first is not."""
        ca = DevelopmentCA()
        last = ca.intermediate(path_length=0)
        right = ca.issue(through=last)
        wrong = ca.issue(through=ca.intermediate(under=last))
        strict_handshake(right, ca.bundle, tmp_path)
        with pytest.raises(ssl.SSLError):
            strict_handshake(wrong, ca.bundle, tmp_path)
        assert proves(right, ca.bundle)
        with pytest.raises(PeerVerificationError):
            proves(wrong, ca.bundle)

    @pytest.mark.parametrize(
        ("constraints", "accepted"),
        [
            pytest.param({"permitted_uris": ["example.org"]}, True, id="permitted"),
            pytest.param({"permitted_uris": ["other.example"]}, False, id="not permitted"),
            pytest.param({"excluded_uris": ["example.org"]}, False, id="excluded"),
            pytest.param({"permitted_dns": ["svc"]}, True, id="DNS permitted"),
            pytest.param({"excluded_dns": ["shop.svc"]}, False, id="DNS excluded"),
        ],
    )
    def test_name_constraints_are_enforced(self, constraints, accepted, tmp_path) -> None:
        """A leaf outside the constraints of its intermediate is refused by OpenSSL."""
        ca = DevelopmentCA()
        through = ca.intermediate(constraints=name_constraints(**constraints))
        assert extension(through.certificate, x509.NameConstraints)[1] is True
        svid = ca.issue(through=through, dns_names=["web.shop.svc"])
        if accepted:
            strict_handshake(svid, ca.bundle, tmp_path)
        else:
            with pytest.raises(ssl.SSLError):
                strict_handshake(svid, ca.bundle, tmp_path)

    def test_expired_intermediate(self) -> None:
        """A negative ttl makes an intermediate that expired, and so its leaf's chain."""
        ca = DevelopmentCA()
        svid = ca.issue(through=ca.intermediate(ttl=-timedelta(hours=1)))
        assert not svid.is_valid_at(datetime.now(UTC))

    def test_too_long_a_chain_is_no_svid(self) -> None:
        """A chain that is longer than we present is refused by `X509Svid` itself."""
        with pytest.raises(SvidError, match="1 to 10"):
            DevelopmentCA().issue(intermediates=10)


class TestIssueFor:
    def test_is_forged(self) -> None:
        """The forged SVID has the other domain's name, and proves it to nobody who has bundles."""
        ca, victim = DevelopmentCA("partner.example"), DevelopmentCA("example.org")
        forged = ca.issue_for("example.org", "/ns/shop/sa/web")
        assert str(forged.spiffe_id) == "spiffe://example.org/ns/shop/sa/web"
        with pytest.raises(PeerVerificationError):
            proves(forged, ca.bundle, victim.bundle)

    def test_plain_openssl_accepts_it(self, tmp_path) -> None:
        """Stock TLS with both roots takes it: only the trust domain's own bundle can refuse it."""
        ca = DevelopmentCA("partner.example")
        strict_handshake(ca.issue_for("example.org"), ca.bundle, tmp_path)


class TestRootRotation:
    def test_overlap(self) -> None:
        """Old and new SVIDs are both proven from publishing to withdrawing, then only the new."""
        ca = DevelopmentCA()
        old = ca.issue()
        ca.add_root()
        assert len(ca.bundle) == 2
        assert proves(ca.issue(), ca.bundle)
        ca.activate_root()
        new = ca.issue()
        assert proves(old, ca.bundle) == proves(new, ca.bundle)
        ca.retire_root()
        assert len(ca.bundle) == 1
        assert proves(new, ca.bundle)
        with pytest.raises(PeerVerificationError):
            proves(old, ca.bundle)

    def test_a_published_root_does_not_sign_yet(self) -> None:
        """Adding a root changes the bundle and nothing else."""
        ca = DevelopmentCA()
        before = ca.authority
        added = ca.add_root()
        assert ca.authority == before != added.certificate
        ca.activate_root()
        assert ca.authority == added.certificate

    def test_the_signing_root_cannot_retire(self) -> None:
        """Withdrawing the root that signs is refused and changes nothing."""
        ca = DevelopmentCA()
        ca.add_root()
        with pytest.raises(ConfigurationError, match="newer root"):
            ca.retire_root()
        assert len(ca.bundle) == 2

    def test_activating_nothing(self) -> None:
        """Activating without a published root is refused."""
        with pytest.raises(ConfigurationError, match="add one"):
            DevelopmentCA().activate_root()


class TestSecrets:
    def test_repr_shows_no_key(self) -> None:
        """No `repr` of the kit's objects holds a key."""
        ca = DevelopmentCA()
        shown = [ca, ca.root, ca.intermediate(), ca.issue(), ca.issue_faulty("expired")]
        assert "KEY" not in repr(shown).upper().replace("_KEY", "")
        assert "object at" not in repr(ca.root)
