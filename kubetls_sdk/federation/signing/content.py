# SPDX-License-Identifier: Apache-2.0
"""What a certificate is to say, before it is signed.

Rules:
    1. What is signed has a fresh random serial number, key identifiers, and whole seconds of UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

    from kubetls_sdk.svid import PrivateKey

__all__ = ("Content", "authority_key_usage", "leaf_key_usage")

_BITS = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True, slots=True)
class Content:
    """What a certificate is to say.

    Attributes:
        subject: The name of the holder.
        public_key: Of the holder.
        not_before: Aware UTC time.
        not_after: Aware UTC time.
        extensions: Pairs of value and criticality; the authority key identifier is added.
    """

    subject: x509.Name
    public_key: CertificatePublicKeyTypes
    not_before: datetime
    not_after: datetime
    extensions: tuple[tuple[x509.ExtensionType, bool], ...]

    def signed_by(
        self, issuer: x509.Name, key: PrivateKey, identifier: x509.SubjectKeyIdentifier
    ) -> x509.Certificate:
        """The certificate.

        Args:
            issuer: Name of who signs.
            key: That it signs with.
            identifier: Of that key.
        """
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(issuer)
            .public_key(self.public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.not_before.replace(microsecond=0))
            .not_valid_after(self.not_after.replace(microsecond=0))
        )
        above = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
        for value, critical in (*self.extensions, (above, False)):
            builder = builder.add_extension(value, critical=critical)
        return builder.sign(key, _digest(key))


def authority_key_usage() -> x509.KeyUsage:
    """The key usage of a CA."""
    return _key_usage("key_cert_sign", "crl_sign")


def leaf_key_usage() -> x509.KeyUsage:
    """The key usage of a leaf."""
    return _key_usage("digital_signature")


def _key_usage(*bits: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in bits for name in _BITS})


def _digest(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp384r1":
        return hashes.SHA384()
    return hashes.SHA256()
