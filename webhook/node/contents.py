# SPDX-License-Identifier: Apache-2.0
"""The files of a volume, and whether those that it holds will still do.

credential-bundle.pem            private key, PKCS#8; leaf, then intermediates
<trust domain>.trust-bundle.pem  the zone's, and one for each partner of the pod

Rules:
    1. What a volume holds is read from its files, after a restart as after their writing: nothing
       else remembers it.
    2. Other bundles than those need other files and no other key, as long as the certificate
       stands under them; whether another key is wanted as well, and can be had, is another matter.
    3. A lifetime that was shortened since needs a new certificate; any other one waits its turn.

Spec: SPIFFE filesystem delivery (draft).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kubetls_sdk import _pem
from kubetls_sdk._profile import MALFORMED
from kubetls_sdk.bundle import TrustBundleSet
from kubetls_sdk.exceptions import PeerVerificationError
from kubetls_sdk.verification import verify_svid
from webhook.exceptions import IssuanceError
from webhook.issuance.public_key import key_type_of
from webhook.issuance.returned import TOLERANCE
from webhook.issuance.validity import Validity, refresh_time, serial_fraction
from webhook.names import CREDENTIAL_BUNDLE, bundle_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from kubetls_sdk.svid import PrivateKey
    from webhook.config import KeyType
    from webhook.delivery.plan import Plan

__all__ = ("Held", "bundle_files", "credential_file", "is_trusted")

_UNREADABLE: Final = (KeyError, IssuanceError, x509.ExtensionNotFound, *MALFORMED)


def credential_file(private_key: PrivateKey, chain_pem: bytes) -> dict[str, bytes]:
    """The file of key and certificates, by its name."""
    key = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {CREDENTIAL_BUNDLE: key + chain_pem}


def bundle_files(plan: Plan) -> dict[str, bytes]:
    """The files of the bundles, by name."""
    every = (plan.bundle, *plan.partners)
    return {bundle_file(each.trust_domain): each.to_pem() for each in every}


def is_trusted(files: Mapping[str, bytes], plan: Plan, now: datetime) -> bool:
    """Whether the certificate that a volume holds stands under the zone's bundle of now."""
    try:
        verify_svid(_chain(files), bundles=TrustBundleSet([plan.bundle]), now=now)
    except (PeerVerificationError, *_UNREADABLE):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Held:
    """What a volume holds, as far as it decides whether it will do.

    Attributes:
        spiffe_id: The only URI of the certificate.
        dns_names: Sorted.
        key_type: Of the key.
        lifetime: Of the certificate.
        refresh_at: Unix time at which the next one is due.
        not_after: Unix time at which the first certificate of the chain ends.
        bundles: Digest of the bundles' files.
    """

    spiffe_id: str
    dns_names: tuple[str, ...]
    key_type: KeyType
    lifetime: timedelta
    refresh_at: float
    not_after: float
    bundles: bytes

    @classmethod
    def read(cls, files: Mapping[str, bytes]) -> Held | None:
        """Take it from a volume's files; None when there is no certificate of ours in them."""
        try:
            return cls._read(files)
        except _UNREADABLE:
            return None

    @classmethod
    def _read(cls, files: Mapping[str, bytes]) -> Held:
        chain = _chain(files)
        leaf = chain[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        end = min(each.not_valid_after_utc for each in chain)
        validity = Validity(leaf.not_valid_before_utc, end)
        refresh = refresh_time(validity, fraction=serial_fraction(leaf.serial_number))
        (spiffe_id,) = names.get_values_for_type(x509.UniformResourceIdentifier)
        return cls(
            spiffe_id=spiffe_id,
            dns_names=tuple(sorted(names.get_values_for_type(x509.DNSName))),
            key_type=key_type_of(leaf.public_key()),  # type: ignore[arg-type]
            lifetime=validity.not_after - validity.not_before,
            refresh_at=refresh.timestamp(),
            not_after=end.timestamp(),
            bundles=_digest({key: text for key, text in files.items() if key != CREDENTIAL_BUNDLE}),
        )

    def needs_bundles(self, plan: Plan) -> bool:
        """Whether the bundles are others than the pod shall have now."""
        return self.bundles != _digest(bundle_files(plan))

    def needs_identity(self, plan: Plan, now: float) -> bool:
        """Whether it takes another key and certificate to hold what the pod shall have now."""
        grant = plan.grant
        is_same = (self.spiffe_id, self.dns_names, self.key_type) == (
            str(grant.spiffe_id),
            grant.dns_names,
            plan.key_type,
        )
        is_too_long = self.lifetime > grant.lifetime + TOLERANCE
        return now >= self.refresh_at or not is_same or is_too_long


def _chain(files: Mapping[str, bytes]) -> Sequence[x509.Certificate]:
    blocks = _pem.blocks(files[CREDENTIAL_BUNDLE])
    found = [each.der for each in blocks if each.label == "CERTIFICATE"]
    if not found:
        raise ValueError("expected a certificate")
    return [x509.load_der_x509_certificate(der) for der in found]


def _digest(files: Mapping[str, bytes]) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(files):
        for part in (name.encode(), files[name]):
            digest.update(len(part).to_bytes(8) + part)
    return digest.digest()
