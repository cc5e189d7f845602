# SPDX-License-Identifier: Apache-2.0
"""A partner's CA as it comes to us to be signed: from its certificate, or from a CSR.

Rules:
    1. Only its name, its key and its validity are taken over; what it asks for besides has no
       effect, and what could not be taken over without loosening something is refused.
    2. A CSR proves possession of its key, as a self-signed certificate does. For a certificate that
       somebody else signed nobody does: the constraints hold all the same.

Spec: RFC 5280 §4.2.1.9, §4.2.1.10; RFC 2986 §4.2; X509-SVID §3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from kubetls_sdk import _pem
from kubetls_sdk._issuer import (
    PathError,
    check_certificate,
    check_issuer,
    check_signature,
    claims_to_be_a_root,
)
from kubetls_sdk._profile import MALFORMED, find_extension
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.federation.signing.authority import key_identifier

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("PartnerAuthority",)


@dataclass(frozen=True, slots=True)
class PartnerAuthority:
    """What is known of a partner's CA.

    Attributes:
        trust_domain: The partner's, as we know it.
        subject: Its name; not empty.
        public_key: Its key.
        key_identifier: As its own leaves name it.
        not_before: Beginning of its certificate; None for a CSR.
        not_after: End of its certificate; None for a CSR.
        path_length: Limit of its certificate; None for none.
    """

    trust_domain: TrustDomain
    subject: x509.Name
    public_key: CertificatePublicKeyTypes
    key_identifier: x509.SubjectKeyIdentifier
    not_before: datetime | None = None
    not_after: datetime | None = None
    path_length: int | None = None

    @classmethod
    def parse(cls, text: bytes, *, trust_domain: TrustDomain, now: datetime) -> PartnerAuthority:
        """Read one PEM certificate or CSR.

        Raises:
            ConfigurationError: Neither, or what cannot be signed; the message says why.
        """
        try:
            blocks = _pem.blocks(text)
        except _pem.PemSyntaxError as err:
            raise ConfigurationError(f"the partner's CA: {err}") from err
        if len(blocks) != 1:
            raise ConfigurationError(f"expected one certificate or CSR, got {len(blocks)} blocks")
        read = {
            "CERTIFICATE": _of_certificate,
            "CERTIFICATE REQUEST": _of_csr,
            "NEW CERTIFICATE REQUEST": _of_csr,
        }.get(blocks[0].label)
        if read is None:
            raise ConfigurationError(f"expected a certificate or CSR, got {blocks[0].label!r}")
        try:
            found = read(blocks[0].der, trust_domain, now)
        except ConfigurationError:
            raise
        except PathError as err:
            raise ConfigurationError(f"the partner's CA: {err}") from err
        except MALFORMED as err:
            raise ConfigurationError(f"the partner's CA is malformed: {err}") from err
        if not found.subject.rdns:
            raise ConfigurationError("expected a partner's CA with a subject, got an empty one")
        return found


def _of_certificate(der: bytes, trust_domain: TrustDomain, now: datetime) -> PartnerAuthority:
    certificate = x509.load_der_x509_certificate(der)
    check_certificate(certificate, now=now)
    check_issuer(certificate, intermediates_below=0)
    if claims_to_be_a_root(certificate):
        check_signature(certificate, certificate)
    if find_extension(certificate.extensions, x509.NameConstraints) is not None:
        raise ConfigurationError(
            "expected a partner's CA without name constraints of its own, which would be lost;"
            " a CSR says that this is meant"
        )
    _check_names(certificate.extensions, trust_domain)
    limit = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    return PartnerAuthority(
        trust_domain,
        certificate.subject,
        certificate.public_key(),
        key_identifier(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        path_length=limit,
    )


def _of_csr(der: bytes, trust_domain: TrustDomain, _now: datetime) -> PartnerAuthority:
    csr = x509.load_der_x509_csr(der)
    if not csr.is_signature_valid:
        raise ConfigurationError("expected a CSR that is signed with its own key")
    wanted = find_extension(csr.extensions, x509.BasicConstraints)
    if wanted is not None and not wanted.value.ca:
        raise ConfigurationError("expected the CSR of a CA, got one that asks for a leaf")
    _check_names(csr.extensions, trust_domain)
    key = csr.public_key()
    return PartnerAuthority(
        trust_domain, csr.subject, key, x509.SubjectKeyIdentifier.from_public_key(key)
    )


def _check_names(extensions: x509.Extensions, trust_domain: TrustDomain) -> None:
    """A CA that says whose it is must be the partner's."""
    names = find_extension(extensions, x509.SubjectAlternativeName)
    allowed = f"spiffe://{trust_domain}"
    for uri in names.value.get_values_for_type(x509.UniformResourceIdentifier) if names else ():
        if uri.startswith("spiffe:") and uri.removesuffix("/") != allowed:
            raise ConfigurationError(f"expected a CA of {allowed!r}, got one of {uri[:200]!r}")
