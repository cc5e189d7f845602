# SPDX-License-Identifier: Apache-2.0
"""A CA certificate with its key, of ours: what signs.

Rules:
    1. The private key appears in no `repr`, error or log line.
    2. It signs what it is given; who gives it has checked that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from kubetls_sdk._issuer import PathError, check_certificate, check_issuer
from kubetls_sdk._profile import MALFORMED, find_extension
from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from datetime import datetime

    from kubetls_sdk.federation.signing.content import Content
    from kubetls_sdk.svid import PrivateKey

__all__ = ("SigningAuthority", "key_identifier")


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class SigningAuthority:
    """An authority that signs.

    Attributes:
        certificate: The CA certificate.
        private_key: Its key.
    """

    certificate: x509.Certificate
    private_key: PrivateKey

    @classmethod
    def load(cls, certificate: bytes, key: bytes) -> SigningAuthority:
        """Read one certificate and its key, both PEM, the key not encrypted.

        Raises:
            ConfigurationError: One is malformed, or they do not belong together.
        """
        try:
            found = x509.load_pem_x509_certificate(certificate)
            private_key = serialization.load_pem_private_key(key, password=None)
        except (*MALFORMED, UnsupportedAlgorithm):
            # The cause is left out: a parser's message may quote the key.
            raise ConfigurationError("expected a CA certificate and its key, as PEM") from None
        if not isinstance(
            private_key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
        ):
            raise ConfigurationError("expected an EC, RSA or Ed25519 key of a CA")
        if private_key.public_key() != found.public_key():
            raise ConfigurationError("expected the key of the CA certificate, got another one")
        return cls(found, private_key)

    def check(self, *, now: datetime, intermediates_below: int) -> None:
        """Check that it may sign now, with so many CAs below it.

        Raises:
            ConfigurationError: It may not; the message says why.
        """
        try:
            check_certificate(self.certificate, now=now)
            check_issuer(self.certificate, intermediates_below=intermediates_below)
        except PathError as err:
            raise ConfigurationError(f"our CA: {err}") from err

    @classmethod
    def self_signed(cls, content: Content, private_key: PrivateKey) -> SigningAuthority:
        """Make a root of a content that has this key."""
        identifier = x509.SubjectKeyIdentifier.from_public_key(content.public_key)
        return cls(content.signed_by(content.subject, private_key, identifier), private_key)

    def sign(self, content: Content) -> x509.Certificate:
        """Sign a certificate."""
        identifier = key_identifier(self.certificate)
        return content.signed_by(self.certificate.subject, self.private_key, identifier)

    def __repr__(self) -> str:
        return f"<SigningAuthority {self.certificate.subject.rfc4514_string()}>"


def key_identifier(certificate: x509.Certificate) -> x509.SubjectKeyIdentifier:
    """The identifier of a certificate's key: the one that it says, else the usual one."""
    found = find_extension(certificate.extensions, x509.SubjectKeyIdentifier)
    if found is not None:
        return found.value
    return x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
