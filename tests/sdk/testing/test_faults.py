# SPDX-License-Identifier: Apache-2.0
"""The promises of the faults: each is refused, and is the only thing that is wrong."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from kubetls_sdk import (
    ConfigurationError,
    PeerVerificationError,
    SvidError,
    TrustBundleSet,
    X509Svid,
    verify_svid,
)
from kubetls_sdk.testing import FAULTS, DevelopmentCA
from tests.sdk.testing.handshake import strict_handshake

if TYPE_CHECKING:
    from cryptography import x509

# What OpenSSL refuses by itself, with X509_STRICT; everything else is for us to see.
SEEN_BY_OPENSSL = {
    "bad_signature",
    "client_only_eku",
    "expired",
    "key_cert_sign",
    "leaf_as_issuer",
    "missing_intermediate",
    "no_aki",
    "not_yet_valid",
    "unknown_critical_extension",
    "untrusted_root",
    "wrong_key",
}


@pytest.fixture(scope="module")
def ca() -> DevelopmentCA:
    return DevelopmentCA()


def oids(certificate: x509.Certificate) -> set[str]:
    return {each.oid.dotted_string for each in certificate.extensions}


class TestFaults:
    # A missing authority key identifier breaks RFC 5280, which only strict validators mind.
    @pytest.mark.parametrize("fault", sorted(FAULTS.keys() - {"no_aki"}))
    def test_is_refused(self, fault, ca) -> None:
        """Every fault is refused: offline, or as our own SVID when the chain itself is right."""
        chain = ca.issue_faulty(fault, "/ns/shop/sa/web")
        bundles = TrustBundleSet([ca.bundle])
        if fault == "wrong_key":
            with pytest.raises(SvidError, match="another key"):
                X509Svid(chain.certificates, chain.private_key)
            return
        with pytest.raises(PeerVerificationError):
            verify_svid(chain.certificates, bundles=bundles, now=datetime.now(UTC))

    @pytest.mark.parametrize("fault", sorted(FAULTS))
    def test_openssl_alone(self, fault, ca, tmp_path) -> None:
        """The table of what a strict OpenSSL refuses is exact, so the others need our check."""
        chain = ca.issue_faulty(fault, "/ns/shop/sa/web")
        if fault in SEEN_BY_OPENSSL:
            with pytest.raises(ssl.SSLError):
                strict_handshake(chain, ca.bundle, tmp_path)
        else:
            strict_handshake(chain, ca.bundle, tmp_path)

    @pytest.mark.parametrize("fault", sorted(FAULTS))
    def test_keeps_the_options(self, fault, ca) -> None:
        """A fault is put into the certificate that was asked for."""
        chain = ca.issue_faulty(fault, common_name="asked-for")
        assert chain.leaf.subject.rfc4514_string() == "CN=asked-for"

    @pytest.mark.parametrize(
        ("fault", "missing"),
        [
            pytest.param("no_san", "2.5.29.17", id="no_san"),
            pytest.param("no_key_usage", "2.5.29.15", id="no_key_usage"),
            pytest.param("no_aki", "2.5.29.35", id="no_aki"),
        ],
    )
    def test_lacks_one_extension(self, fault, missing, ca) -> None:
        """A fault that takes an extension away leaves all others."""
        right = oids(ca.issue().leaf)
        assert right - oids(ca.issue_faulty(fault).leaf) == {missing}

    def test_expired_was_valid(self, ca) -> None:
        """The expired chain was right until it expired, an hour ago or more."""
        chain = ca.issue_faulty("expired").certificates
        then = chain[0].not_valid_after_utc
        assert then < datetime.now(UTC) - timedelta(hours=1)
        peer = verify_svid(chain, bundles=TrustBundleSet([ca.bundle]), now=then)
        assert peer.spiffe_id == ca.spiffe_id()

    def test_not_yet_valid_will_be(self, ca) -> None:
        """The chain of tomorrow is right tomorrow."""
        chain = ca.issue_faulty("not_yet_valid").certificates
        then = datetime.now(UTC) + timedelta(days=1)
        peer = verify_svid(chain, bundles=TrustBundleSet([ca.bundle]), now=then)
        assert peer.spiffe_id == ca.spiffe_id()

    def test_untrusted_root_has_the_name_of_ours(self, ca) -> None:
        """The impostor differs from the trusted root in its key only, not in its name."""
        chain = ca.issue_faulty("untrusted_root")
        assert chain.leaf.issuer == ca.authority.subject

    def test_long_chain(self, ca) -> None:
        """The long chain has 100 certificates."""
        assert len(ca.issue_faulty("long_chain").certificates) == 100

    @pytest.mark.parametrize("fault", sorted(FAULTS))
    def test_nothing_looks_self_issued(self, fault, ca) -> None:
        """Every presented certificate has another subject than its issuer."""
        for certificate in ca.issue_faulty(fault, intermediates=1).certificates:
            assert certificate.subject != certificate.issuer

    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            pytest.param("two_uris", "exactly one URI SAN", id="two_uris"),
            pytest.param("crl_sign", "cRLSign", id="crl_sign"),
            pytest.param("expired", "expired", id="expired"),
            pytest.param("unknown_critical_extension", "critical", id="critical extension"),
            pytest.param("long_chain", "chain of 1 to", id="long_chain"),
        ],
    )
    def test_is_refused_for_its_own_reason(self, fault, reason, ca) -> None:
        """The reason of the refusal is the fault, not something beside it."""
        chain = ca.issue_faulty(fault)
        bundles = TrustBundleSet([ca.bundle])
        with pytest.raises(PeerVerificationError, match=reason):
            verify_svid(chain.certificates, bundles=bundles, now=datetime.now(UTC))

    def test_through_an_intermediate(self, ca) -> None:
        """Faults combine with intermediates."""
        assert len(ca.issue_faulty("two_uris", intermediates=2).certificates) == 3

    def test_without_a_fault_it_is_right(self, ca, tmp_path) -> None:
        """The same call without a fault is accepted by both: the control of this table."""
        svid = ca.issue("/ns/shop/sa/web")
        strict_handshake(svid, ca.bundle, tmp_path)
        peer = verify_svid(svid.chain, bundles=TrustBundleSet([ca.bundle]), now=datetime.now(UTC))
        assert peer.spiffe_id == svid.spiffe_id

    def test_unknown_fault(self, ca) -> None:
        """An unknown fault is refused with the list of known ones."""
        with pytest.raises(ConfigurationError, match=r"two_uris.*'twouris'"):
            ca.issue_faulty("twouris")
