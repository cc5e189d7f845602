# SPDX-License-Identifier: Apache-2.0
"""A serving certificate of the webhook, with a CA that signed nothing else and never will.

Rules:
    1. The CA's key is thrown away once it has signed: there is nothing to steal, and an old CA in
       the caBundle vouches for no other certificate.
    2. Certificate and CA end at the same second, so a CA is needed exactly as long as it is valid.
    3. The private key appears in no `repr`.

Spec: RFC 5280 §4.2; Go's crypto/x509, which the API server verifies with: SAN, serverAuth.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubetls_sdk._profile import MALFORMED
from webhook.trust.root_certificate import BACKDATE, authority_usage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from ipaddress import IPv4Address, IPv6Address

__all__ = ("VALIDITY", "ServingNames", "ServingPair", "make_pair")

VALIDITY: Final = timedelta(days=90)


class ServingNames(NamedTuple):
    """What the API server dials; sorted."""

    dns: tuple[str, ...]
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class ServingPair:
    """A serving certificate and its key.

    Attributes:
        certificate: What the webhook presents.
        key_pem: Its private key, PKCS#8.
    """

    certificate: x509.Certificate
    key_pem: bytes

    @classmethod
    def from_pem(cls, certificate: bytes, key: bytes) -> ServingPair | None:
        """Read a pair; None when it is none."""
        try:
            found = x509.load_pem_x509_certificate(certificate)
            private = load_pem_private_key(key, password=None)
            fits = private.public_key() == found.public_key()
        except MALFORMED:
            return None
        return cls(found, key) if fits else None

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def names(self) -> ServingNames | None:
        """What it is for; None when it does not say."""
        try:
            found = self.certificate.extensions.get_extension_for_class(
                x509.SubjectAlternativeName
            ).value
        except (x509.ExtensionNotFound, *MALFORMED):
            return None
        addresses = found.get_values_for_type(x509.IPAddress)
        return ServingNames(
            tuple(found.get_values_for_type(x509.DNSName)),
            tuple(each for each in addresses if not hasattr(each, "netmask")),
        )

    @property
    def renew_at(self) -> datetime:
        """When its successor should be made: two thirds of its life."""
        start, end = self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc
        return start + (end - start) * 2 / 3

    def is_valid_at(self, now: datetime) -> bool:
        """Whether a client takes it at an aware time."""
        certificate = self.certificate
        return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc

    def is_signed_by_one_of(self, authorities: Iterable[x509.Certificate]) -> bool:
        """Whether its CA is among these."""
        return any(map(self._is_signed_by, authorities))

    def _is_signed_by(self, authority: x509.Certificate) -> bool:
        try:
            self.certificate.verify_directly_issued_by(authority)
        except (InvalidSignature, *MALFORMED):
            return False
        return True

    def __repr__(self) -> str:
        return f"<ServingPair {self.certificate.serial_number:x}>"


def make_pair(
    names: ServingNames, *, now: datetime, validity: timedelta = VALIDITY
) -> tuple[ServingPair, x509.Certificate]:
    """Make a serving certificate, and the CA that signed it.

    Args:
        names: What the API server dials.
        now: Aware UTC time; both are valid from a little before it.
        validity: From `now` on.

    Returns:
        The pair, and the certificate of its CA, whose key no longer exists.
    """
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    span = ((now - BACKDATE).replace(microsecond=0), (now + validity).replace(microsecond=0))
    authority = _authority(ca_key, span)
    leaf = (
        _draft(_name("kubetls-webhook"), authority.subject, key.public_key(), span)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_serving_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_alternative(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return ServingPair(leaf, text), authority


def _authority(
    key: ec.EllipticCurvePrivateKey, span: tuple[datetime, datetime]
) -> x509.Certificate:
    name = _name(f"kubetls-webhook CA {secrets.token_hex(4)}")
    return (
        _draft(name, name, key.public_key(), span)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(authority_usage(), critical=True)
        .sign(key, hashes.SHA256())
    )


def _draft(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    span: tuple[datetime, datetime],
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(span[0])
        .not_valid_after(span[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(names: ServingNames) -> x509.SubjectAlternativeName:
    found: list[x509.GeneralName] = [x509.DNSName(name) for name in names.dns]
    found += [x509.IPAddress(address) for address in names.addresses]
    return x509.SubjectAlternativeName(found)


def _serving_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=False,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
