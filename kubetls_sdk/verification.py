# SPDX-License-Identifier: Apache-2.0
"""Authentication: from a presented chain to the SPIFFE ID that it proves.

Rules:
    1. The peer's *own* trust domain decides the bundle: another domain's CA, trusted or not, can
       never mint its names.
    2. Time is an argument. Nothing here reads a clock, a file or a socket.
    3. In a handshake OpenSSL validates the path; here the anchor that it used must be in the peer
       domain's bundle, with no second try. Offline, `verify_svid` validates the path itself.
    4. What was verified once is checked again cheaply with `recheck`.

Spec: X509-SVID §5; SPIFFE Trust Domain and Bundle §3; RFC 5280 §6.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk._path import PathError, find_path
from kubetls_sdk._profile import MALFORMED, ProfileViolation, claimed_spiffe_id, leaf_spiffe_id
from kubetls_sdk.exceptions import PeerVerificationError
from kubetls_sdk.svid import MAX_CHAIN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from kubetls_sdk.bundle import TrustBundleSet
    from kubetls_sdk.spiffe_id import SpiffeId

__all__ = ("VerifiedPeer", "recheck", "verify_handshake_chain", "verify_svid")


@dataclass(frozen=True, slots=True)
class VerifiedPeer:
    """The result of a verification: who the peer is, and what that rests on.

    Attributes:
        spiffe_id: The identity that the peer proved.
        leaf: The peer's certificate.
        anchor_der: DER of the authority that the path ends in.
        expires_at: Aware UTC time of the first expiry on the path, anchor included.
    """

    spiffe_id: SpiffeId
    leaf: x509.Certificate
    anchor_der: bytes
    expires_at: datetime


def verify_svid(
    chain: Sequence[x509.Certificate], *, bundles: TrustBundleSet, now: datetime
) -> VerifiedPeer:
    """Authenticate a presented X.509-SVID offline and return who it proves to be.

    Checks the leaf profile, the path to an authority in the bundle of the leaf's own trust domain,
    validity at `now`, basic and name constraints, path length and critical extensions. Does not
    decide whether the identity may do anything, and does not check possession of the key: that is
    the handshake's part.

    Args:
        chain: Leaf first, then any intermediates in any order; 1 to `MAX_CHAIN` certificates.
        bundles: Whom we trust; a domain without bundle, or with an empty one, proves nobody.
        now: Aware UTC time of the check.

    Raises:
        PeerVerificationError: The chain does not prove a SPIFFE ID; `.reason` says why.

    Spec: X509-SVID §2, §4, §5.2; RFC 5280 §6.1.
    """
    if not 1 <= len(chain) <= MAX_CHAIN:
        raise PeerVerificationError(f"expected a chain of 1 to {MAX_CHAIN}, got {len(chain)}")
    leaf = chain[0]
    spiffe_id = _leaf_identity(leaf)
    bundle = bundles.get(spiffe_id.trust_domain)
    if bundle is None:
        raise _untrusted_domain(spiffe_id)
    try:
        path = find_path(leaf, chain[1:], bundle.authorities, now=now)
    except PathError as err:
        raise PeerVerificationError(str(err), spiffe_id=spiffe_id) from err
    return VerifiedPeer(
        spiffe_id=spiffe_id,
        leaf=leaf,
        anchor_der=path[-1].public_bytes(Encoding.DER),
        expires_at=min(certificate.not_valid_after_utc for certificate in path),
    )


def verify_handshake_chain(
    verified_chain: Sequence[bytes], *, bundles: TrustBundleSet
) -> VerifiedPeer:
    """Apply the SPIFFE rules to a path that OpenSSL has just validated against all authorities.

    Args:
        verified_chain: DER, leaf first, the anchor that OpenSSL used last; at least two.
        bundles: The bundles whose authorities, all together, were OpenSSL's trust store.

    Raises:
        PeerVerificationError: The leaf breaks the profile, or the anchor is not an authority of
            the leaf's own trust domain.

    Spec: X509-SVID §5.2; SPIFFE Trust Domain and Bundle §3.
    """
    if not 2 <= len(verified_chain) <= MAX_CHAIN:
        raise PeerVerificationError(
            f"expected a verified path of 2 to {MAX_CHAIN} certificates, got {len(verified_chain)}"
        )
    leaf, *intermediates = (_load(der) for der in verified_chain[:-1])
    spiffe_id = _leaf_identity(leaf)
    anchor = bundles.anchor(spiffe_id.trust_domain, verified_chain[-1])
    if anchor is None:
        raise _untrusted_anchor(spiffe_id, bundles)
    path = (leaf, *intermediates, anchor)
    return VerifiedPeer(
        spiffe_id=spiffe_id,
        leaf=leaf,
        anchor_der=verified_chain[-1],
        expires_at=min(certificate.not_valid_after_utc for certificate in path),
    )


def recheck(peer: VerifiedPeer, *, bundles: TrustBundleSet, now: datetime) -> None:
    """Check that what was verified earlier still holds: not expired, and its anchor not removed.

    Raises:
        PeerVerificationError: It does not hold any more.
    """
    if now > peer.expires_at:
        raise PeerVerificationError(
            f"its certificate expired at {peer.expires_at:%Y-%m-%dT%H:%M:%SZ}",
            spiffe_id=peer.spiffe_id,
        )
    if bundles.anchor(peer.spiffe_id.trust_domain, peer.anchor_der) is None:
        raise PeerVerificationError(
            f"its root was removed from the trust bundle of {str(peer.spiffe_id.trust_domain)!r}",
            spiffe_id=peer.spiffe_id,
        )


def _load(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except MALFORMED as err:
        raise PeerVerificationError(f"expected an X.509 certificate: {err}") from err


def _leaf_identity(leaf: x509.Certificate) -> SpiffeId:
    try:
        return leaf_spiffe_id(leaf)
    except ProfileViolation as err:
        raise PeerVerificationError(str(err), spiffe_id=claimed_spiffe_id(leaf)) from err


def _untrusted_domain(spiffe_id: SpiffeId) -> PeerVerificationError:
    return PeerVerificationError(
        f"no trust bundle of {str(spiffe_id.trust_domain)!r}", spiffe_id=spiffe_id
    )


def _untrusted_anchor(spiffe_id: SpiffeId, bundles: TrustBundleSet) -> PeerVerificationError:
    if spiffe_id.trust_domain not in bundles:
        return _untrusted_domain(spiffe_id)
    return PeerVerificationError(
        f"issued by an authority of another trust domain than {str(spiffe_id.trust_domain)!r}",
        spiffe_id=spiffe_id,
    )
