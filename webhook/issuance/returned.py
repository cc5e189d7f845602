# SPDX-License-Identifier: Apache-2.0
"""What somebody else's signer returned, accepted only if it is what was asked for.

Rules:
    1. Trust is configured: the answer proves itself under the zone's own bundle, and a root in the
       answer counts for nothing.
    2. Key, SPIFFE ID, DNS names, profile and validity equal the request. A certificate with more
       than that is refused as one with less.
    3. What is handed on is the path that was verified, in order and without the anchor; not what
       was sent.

Spec: X509-SVID §2, §4, §5.2; RFC 5280 §6.1.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubetls_sdk import _pem
from kubetls_sdk._path import PathError, find_path
from kubetls_sdk._profile import MALFORMED
from kubetls_sdk.bundle import TrustBundleSet
from kubetls_sdk.exceptions import PeerVerificationError
from kubetls_sdk.svid import MAX_CHAIN
from kubetls_sdk.verification import verify_svid
from webhook.exceptions import IssuanceError
from webhook.issuance.leaf import KEY_USAGE
from webhook.issuance.profile import Issued, names_of
from webhook.issuance.validity import Validity, refresh_time, serial_fraction

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from kubetls_sdk.bundle import TrustBundle
    from kubetls_sdk.verification import VerifiedPeer
    from webhook.issuance.grant import Grant

__all__ = ("MAX_CHAIN_BYTES", "TOLERANCE", "UNACCEPTABLE", "verify_returned")

UNACCEPTABLE: Final = "UnacceptableCertificate"
MAX_CHAIN_BYTES: Final = 100 * 1024
TOLERANCE: Final = timedelta(minutes=10)
"""Between the lifetime that was asked for and the one that came: signers date back."""

_BOTH_ROLES: Final = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})


def verify_returned(chain_pem: bytes, grant: Grant, bundle: TrustBundle, now: datetime) -> Issued:
    """Accept the answer of an external signer, or refuse it.

    Args:
        chain_pem: PEM, the leaf first, further certificates in any order.
        grant: What was asked for.
        bundle: The configured authorities of the grant's zone.
        now: Aware UTC time.

    Raises:
        IssuanceError: Final for this answer: it is not what was asked for.
    """
    chain = _load(chain_pem)
    leaf = chain[0]
    try:
        peer = verify_svid(chain, bundles=TrustBundleSet([bundle]), now=now)
        path = find_path(leaf, chain[1:], bundle.authorities, now=now)
        _check_equal("public key", leaf.public_key() == grant.public_key)
        _check_equal("SPIFFE ID", peer.spiffe_id == grant.spiffe_id)
        _check_names(leaf, grant)
        _check_usages(leaf)
    except (PeerVerificationError, PathError) as err:
        raise _refused(f"it does not verify under the configured bundle: {err}") from err
    except (*MALFORMED, x509.ExtensionNotFound) as err:
        raise _refused("it is malformed or lacks an extension") from err
    validity = _validity(leaf, peer, grant, now=now)
    return Issued(
        certificate=leaf,
        chain_pem=b"".join(each.public_bytes(Encoding.PEM) for each in path[:-1]),
        serial=leaf.serial_number,
        not_before=validity.not_before,
        begin_refresh_at=refresh_time(
            validity, fraction=serial_fraction(leaf.serial_number), early=grant.refreshes_early
        ),
        not_after=validity.not_after,
    )


def _load(text: bytes) -> Sequence[x509.Certificate]:
    if len(text) > MAX_CHAIN_BYTES:
        raise _refused(f"expected at most {MAX_CHAIN_BYTES} bytes, got {len(text)}")
    try:
        found = _pem.blocks(text)
        if not 1 <= len(found) <= MAX_CHAIN or any(each.label != "CERTIFICATE" for each in found):
            raise _refused(f"expected 1 to {MAX_CHAIN} PEM CERTIFICATE blocks and no others")
        return tuple(x509.load_der_x509_certificate(block.der) for block in found)
    except (_pem.PemSyntaxError, *MALFORMED) as err:
        raise _refused("expected certificates in PEM") from err


def _check_names(leaf: x509.Certificate, grant: Grant) -> None:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    got, wanted = list(names), list(names_of(grant))
    _check_equal("names", len(got) == len(wanted) and set(got) == set(wanted))
    subject = list(leaf.subject)
    is_named = [(each.oid, each.value) for each in subject] == [
        (NameOID.COMMON_NAME, grant.common_name)
    ]
    _check_equal("subject", is_named or not subject)


def _check_usages(leaf: x509.Certificate) -> None:
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    _check_equal("key usage", usage == KEY_USAGE)
    roles = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    _check_equal("extended key usage", set(roles) == _BOTH_ROLES)


def _validity(
    leaf: x509.Certificate, peer: VerifiedPeer, grant: Grant, *, now: datetime
) -> Validity:
    validity = Validity(leaf.not_valid_before_utc, peer.expires_at)
    lifetime = validity.not_after - validity.not_before
    if abs(lifetime - grant.lifetime) > TOLERANCE:
        raise _refused(f"expected a validity of {grant.lifetime}, got {lifetime}")
    if now > validity.not_before + lifetime / 2:
        raise _refused("expected a new certificate, got one with more than half of its life gone")
    return validity


def _check_equal(what: str, is_equal: bool) -> None:
    if not is_equal:
        raise _refused(f"its {what} is not what was asked for")


def _refused(message: str) -> IssuanceError:
    return IssuanceError(f"the signer's answer is refused: {message}", reason=UNACCEPTABLE)
