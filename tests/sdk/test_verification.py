# SPDX-License-Identifier: Apache-2.0
"""Authentication: which chain proves which SPIFFE ID, to whom and when."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk import (
    PeerVerificationError,
    SpiffeId,
    TrustBundle,
    TrustBundleSet,
    TrustDomain,
    verify_svid,
)
from kubetls_sdk.svid import MAX_CHAIN
from kubetls_sdk.testing import FAULTS, KEY_TYPES, DevelopmentCA
from kubetls_sdk.verification import recheck, verify_handshake_chain

if TYPE_CHECKING:
    from cryptography import x509

WEB = SpiffeId.parse("spiffe://example.org/ns/shop/sa/web")
SECOND = timedelta(seconds=1)
NOT_IN_THE_CHAIN = {"wrong_key", "no_aki"}
"""Not the path's matter: possession is proved in the handshake, and the AKI may be missing."""


@pytest.fixture(scope="module")
def ours() -> DevelopmentCA:
    return DevelopmentCA("example.org")


@pytest.fixture(scope="module")
def partner() -> DevelopmentCA:
    return DevelopmentCA("partner.example")


@pytest.fixture(scope="module")
def bundles(ours, partner) -> TrustBundleSet:
    return TrustBundleSet([ours.bundle, partner.bundle])


def der(*certificates: x509.Certificate) -> list[bytes]:
    return [certificate.public_bytes(Encoding.DER) for certificate in certificates]


class TestVerifySvid:
    """A chain proves a name to those who trust the authorities of that name's domain."""

    @pytest.mark.parametrize("key_type", KEY_TYPES)
    @pytest.mark.parametrize("intermediates", [0, 1, 3])
    def test_returns_who_it_is(self, ours, bundles, key_type, intermediates: int) -> None:
        """Identity, leaf, the anchor that it rests on, and when that ends."""
        svid = ours.issue(key_type=key_type, intermediates=intermediates)
        peer = verify_svid(svid.chain, bundles=bundles, now=ours.now)
        assert peer.spiffe_id == WEB
        assert peer.leaf == svid.leaf
        assert peer.anchor_der == der(ours.authority)[0]
        assert peer.expires_at == svid.not_after

    def test_works_under_ed25519_throughout(self) -> None:
        """Root, intermediate and leaf with Ed25519 keys."""
        ca = DevelopmentCA(key_type="ed25519")
        svid = ca.issue(key_type="ed25519", intermediates=1)
        assert verify_svid(svid.chain, bundles=TrustBundleSet([ca.bundle]), now=ca.now)

    @pytest.mark.parametrize("fault", sorted(set(FAULTS) - NOT_IN_THE_CHAIN))
    def test_refuses_every_fault(self, ours, bundles, fault: str) -> None:
        """Each fault of the testing kit is a refusal with a reason in one clause."""
        chain = ours.issue_faulty(fault).certificates
        with pytest.raises(PeerVerificationError) as caught:
            verify_svid(chain, bundles=bundles, now=ours.now)
        assert caught.value.reason
        assert "\n" not in caught.value.reason
        assert "\0" not in caught.value.reason

    @pytest.mark.parametrize("fault", sorted(NOT_IN_THE_CHAIN))
    def test_takes_what_is_not_a_fault_of_the_path(self, ours, bundles, fault: str) -> None:
        """It does not promise more than it checks."""
        chain = ours.issue_faulty(fault).certificates
        assert verify_svid(chain, bundles=bundles, now=ours.now).spiffe_id == WEB

    def test_refuses_our_name_under_a_partner(self, partner, bundles) -> None:
        """The leaf's own domain decides the bundle, although the other CA is trusted too."""
        forged = partner.issue_for("example.org", "/ns/shop/sa/web")
        with pytest.raises(PeerVerificationError, match="no authority of the bundle") as caught:
            verify_svid(forged.chain, bundles=bundles, now=partner.now)
        assert caught.value.spiffe_id == WEB

    def test_refuses_our_name_under_a_partner_with_our_root_attached(
        self, ours, partner, bundles
    ) -> None:
        """Presenting a trusted root beside a forged chain proves nothing."""
        forged = partner.issue_for("example.org", "/ns/shop/sa/web", intermediates=1)
        chain = [*forged.chain, partner.authority, ours.authority]
        with pytest.raises(PeerVerificationError):
            verify_svid(chain, bundles=bundles, now=ours.now)

    def test_takes_a_partner_under_its_own_name(self, partner, bundles) -> None:
        """Federation: each domain for itself."""
        svid = partner.issue("/billing")
        peer = verify_svid(svid.chain, bundles=bundles, now=partner.now)
        assert str(peer.spiffe_id) == "spiffe://partner.example/billing"

    def test_refuses_a_domain_without_bundle(self, ours, partner) -> None:
        """No bundle, no proof; the reason names the domain."""
        svid = partner.issue()
        with pytest.raises(PeerVerificationError, match=r"no trust bundle of 'partner\.example'"):
            verify_svid(svid.chain, bundles=TrustBundleSet([ours.bundle]), now=ours.now)

    def test_refuses_everyone_under_an_empty_bundle(self, ours) -> None:
        """An empty bundle is legal and trusts nobody."""
        empty = TrustBundleSet([TrustBundle(ours.trust_domain, ())])
        with pytest.raises(PeerVerificationError, match="bundle is empty"):
            verify_svid(ours.issue().chain, bundles=empty, now=ours.now)

    def test_takes_a_bundle_of_only_an_intermediate(self, ours) -> None:
        """What is in the bundle is trusted, self-signed or not."""
        through = ours.intermediate()
        svid = ours.issue(through=through)
        only = TrustBundleSet([TrustBundle(ours.trust_domain, (through.certificate,))])
        for chain in (svid.chain, svid.chain[:1]):
            peer = verify_svid(chain, bundles=only, now=ours.now)
            assert peer.anchor_der == der(through.certificate)[0]

    def test_takes_both_roots_during_an_overlap_and_one_after_it(self) -> None:
        """A root is replaced without a moment in which a good SVID is refused."""
        ca = DevelopmentCA()
        old = ca.issue()
        ca.add_root()
        ca.activate_root()
        new = ca.issue()
        for svid in (old, new):
            assert verify_svid(svid.chain, bundles=TrustBundleSet([ca.bundle]), now=ca.now)
        ca.retire_root()
        after = TrustBundleSet([ca.bundle])
        assert verify_svid(new.chain, bundles=after, now=ca.now)
        with pytest.raises(PeerVerificationError):
            verify_svid(old.chain, bundles=after, now=ca.now)

    def test_takes_the_clock_as_an_argument(self, ours, bundles) -> None:
        """The same chain is too early, right, and too late."""
        svid = ours.issue()
        for now in (svid.not_before, svid.not_after):
            assert verify_svid(svid.chain, bundles=bundles, now=now)
        with pytest.raises(PeerVerificationError, match="not valid before"):
            verify_svid(svid.chain, bundles=bundles, now=svid.not_before - SECOND)
        with pytest.raises(PeerVerificationError, match="expired at"):
            verify_svid(svid.chain, bundles=bundles, now=svid.not_after + SECOND)

    def test_expires_with_the_first_certificate_of_the_path(self, ours, bundles) -> None:
        """An intermediate that ends before its leaf ends the peer."""
        through = ours.intermediate(ttl=timedelta(minutes=5))
        peer = verify_svid(ours.issue(through=through).chain, bundles=bundles, now=ours.now)
        assert peer.expires_at == through.certificate.not_valid_after_utc

    def test_bounds_the_chain(self, ours, bundles) -> None:
        """Nothing, or more than `MAX_CHAIN` certificates, is refused before any work."""
        svid = ours.issue()
        most = (*svid.chain, *[ours.authority] * (MAX_CHAIN - 1))
        assert verify_svid(most, bundles=bundles, now=ours.now)
        for chain in ((), (*most, ours.authority)):
            with pytest.raises(PeerVerificationError, match="chain of 1 to 10"):
                verify_svid(chain, bundles=bundles, now=ours.now)

    def test_obeys_the_path_length(self, ours, bundles) -> None:
        """PathLenConstraint counts the intermediates below."""
        last = ours.intermediate(path_length=0)
        assert verify_svid(ours.issue(through=last).chain, bundles=bundles, now=ours.now)
        beyond = ours.intermediate(under=last)
        with pytest.raises(PeerVerificationError, match="path length exceeded"):
            verify_svid(ours.issue(through=beyond).chain, bundles=bundles, now=ours.now)


class TestVerifyHandshakeChain:
    """OpenSSL validated the path over all authorities; the anchor must be of the right domain."""

    def test_returns_who_it_is(self, ours, bundles) -> None:
        """The same answer as offline."""
        svid = ours.issue(intermediates=1)
        path = der(*svid.chain, ours.authority)
        peer = verify_handshake_chain(path, bundles=bundles)
        assert peer == verify_svid(svid.chain, bundles=bundles, now=ours.now)

    def test_refuses_an_anchor_of_another_domain(self, partner, bundles) -> None:
        """The forged identity: a path that OpenSSL finds good."""
        forged = partner.issue_for("example.org", "/ns/shop/sa/web")
        with pytest.raises(PeerVerificationError, match="authority of another trust domain"):
            verify_handshake_chain(der(*forged.chain, partner.authority), bundles=bundles)

    def test_refuses_a_domain_without_bundle(self, ours, partner) -> None:
        """Its bundle was removed since OpenSSL read the authorities."""
        path = der(*partner.issue().chain, partner.authority)
        with pytest.raises(PeerVerificationError, match="no trust bundle of"):
            verify_handshake_chain(path, bundles=TrustBundleSet([ours.bundle]))

    @pytest.mark.parametrize("fault", ["two_uris", "ca_leaf", "crl_sign", "no_key_usage"])
    def test_checks_the_leaf_profile(self, ours, bundles, fault: str) -> None:
        """What OpenSSL alone would take."""
        path = der(*ours.issue_faulty(fault).certificates, ours.authority)
        with pytest.raises(PeerVerificationError):
            verify_handshake_chain(path, bundles=bundles)

    def test_refuses_a_leaf_that_is_its_own_anchor(self, ours, bundles) -> None:
        """A path has a leaf and an anchor, and not more than `MAX_CHAIN` certificates."""
        leaf = der(ours.issue().leaf)
        for path in ([], leaf, leaf * (MAX_CHAIN + 1)):
            with pytest.raises(PeerVerificationError, match="verified path of 2 to 10"):
                verify_handshake_chain(path, bundles=bundles)

    @pytest.mark.parametrize("number", [0, 1])
    @pytest.mark.parametrize("junk", [b"", b"\x30\x03\x02\x01\x05", b"not DER"], ids=repr)
    def test_refuses_what_is_no_certificate(self, ours, bundles, number: int, junk: bytes) -> None:
        """An unreadable certificate is a refusal, not another error."""
        path = der(*ours.issue(intermediates=1).chain, ours.authority)
        path[number] = junk
        with pytest.raises(PeerVerificationError, match=r"expected an X\.509 certificate"):
            verify_handshake_chain(path, bundles=bundles)

    def test_refuses_an_unknown_version(self, ours, bundles) -> None:
        """X.509 version 5 is reported by the parser in its own way."""
        path = der(ours.issue().leaf, ours.authority)
        path[0] = path[0].replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x04", 1)
        with pytest.raises(PeerVerificationError, match=r"expected an X\.509 certificate"):
            verify_handshake_chain(path, bundles=bundles)


class TestRecheck:
    """What was verified holds until it expires or its root is removed."""

    def test_passes_while_nothing_changed(self, ours, bundles) -> None:
        """Up to the last moment of the path."""
        peer = verify_svid(ours.issue().chain, bundles=bundles, now=ours.now)
        recheck(peer, bundles=bundles, now=ours.now)
        recheck(peer, bundles=bundles, now=peer.expires_at)

    def test_ends_with_the_certificate(self, ours, bundles) -> None:
        """A connection does not outlive its certificate."""
        peer = verify_svid(ours.issue().chain, bundles=bundles, now=ours.now)
        with pytest.raises(PeerVerificationError, match="certificate expired at"):
            recheck(peer, bundles=bundles, now=peer.expires_at + SECOND)

    @pytest.mark.parametrize("left", ["empty", "gone", "other root", "other domain"])
    def test_ends_with_the_root(self, ours, partner, bundles, left: str) -> None:
        """Its anchor must still be in the bundle of its own domain."""
        peer = verify_svid(ours.issue().chain, bundles=bundles, now=ours.now)
        now_trusted = {
            "empty": [TrustBundle(ours.trust_domain, ())],
            "gone": [partner.bundle],
            "other root": [DevelopmentCA("example.org").bundle],
            "other domain": [TrustBundle(TrustDomain("z"), ours.bundle.authorities)],
        }[left]
        with pytest.raises(PeerVerificationError, match="root was removed") as caught:
            recheck(peer, bundles=TrustBundleSet(now_trusted), now=ours.now)
        assert caught.value.spiffe_id == WEB
