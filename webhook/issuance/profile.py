# SPDX-License-Identifier: Apache-2.0
"""The certificate profile: from a grant to a signed X.509-SVID.

    subject          CN = the pod's name, nothing else; empty where there is no DNS name
    subject alt name exactly one URI, the SPIFFE ID; then DNS names. Critical with an empty subject
    key usage        digitalSignature, critical
    extended usage   serverAuth, clientAuth
    constraints      CA false, critical
    identifiers      of the authority's key and of the holder's

Rules:
    1. Every field comes from the grant or the authority; nothing from the requester but its key.
    2. A serial number is 159 random bits: positive, 20 bytes at the most.

Spec: X509-SVID §2, §4; RFC 5280 §4.1.2.2, §4.1.2.6, §4.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from webhook.issuance.validity import Validity, refresh_time, serial_fraction

if TYPE_CHECKING:
    from datetime import datetime

    from webhook.issuance.authority import Authority
    from webhook.issuance.grant import Grant

__all__ = ("Issued", "issue", "names_of", "subject_of")

_MAX_SERIAL: Final = 1 << 159


@dataclass(frozen=True, slots=True, repr=False)
class Issued:
    """A certificate, as a request's status carries it.

    Attributes:
        certificate: The leaf.
        chain_pem: The leaf, then intermediates; without the anchor.
        serial: Of the leaf.
        not_before: Aware UTC, whole seconds; the leaf's.
        begin_refresh_at: Aware UTC, whole seconds: when the holder shall ask for the next one.
        not_after: Aware UTC, whole seconds; the leaf's.
    """

    certificate: x509.Certificate
    chain_pem: bytes
    serial: int
    not_before: datetime
    begin_refresh_at: datetime
    not_after: datetime

    def __repr__(self) -> str:
        return f"<Issued serial={self.serial:x} not_after={self.not_after:%Y-%m-%dT%H:%M:%SZ}>"


def issue(
    grant: Grant, authority: Authority, *, now: datetime, serial: int | None = None
) -> Issued:
    """Sign the certificate of a grant.

    Args:
        grant: What it says.
        authority: Who signs; of the grant's zone.
        now: Aware UTC time.
        serial: Of the certificate; random by default. Spreads refreshes, too.

    Raises:
        IssuanceError: Retryable: the authority is not valid, or not for long enough.
        ValueError: The serial number is not positive, or longer than 159 bits.
    """
    validity = Validity.within(authority, grant.lifetime, now=now)
    number = x509.random_serial_number() if serial is None else serial
    if not 0 < number < _MAX_SERIAL:
        raise ValueError("expected a positive serial number of at most 159 bits")
    certificate = _signed(grant, authority, validity, number)
    fraction = serial_fraction(number)
    return Issued(
        certificate=certificate,
        chain_pem=certificate.public_bytes(Encoding.PEM) + authority.chain_pem,
        serial=number,
        not_before=validity.not_before,
        begin_refresh_at=refresh_time(validity, fraction=fraction, early=grant.refreshes_early),
        not_after=validity.not_after,
    )


def _signed(
    grant: Grant, authority: Authority, validity: Validity, serial: int
) -> x509.Certificate:
    holder = x509.SubjectKeyIdentifier.from_public_key(grant.public_key)
    names = names_of(grant)
    # What the builder's setters would make of this, one copy each: half of the time of issuing.
    builder = x509.CertificateBuilder(
        issuer_name=authority.certificate.subject,
        subject_name=subject_of(grant),
        public_key=grant.public_key,
        serial_number=serial,
        not_valid_before=validity.not_before.replace(tzinfo=None),
        not_valid_after=validity.not_after.replace(tzinfo=None),
        extensions=[
            *authority.template,
            x509.Extension(names.oid, grant.common_name is None, names),
            x509.Extension(holder.oid, False, holder),
        ],
    )
    return builder.sign(authority.private_key, authority.digest)  # type: ignore[arg-type]


def subject_of(grant: Grant) -> x509.Name:
    """The subject: the common name alone, or empty."""
    if grant.common_name is None:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, grant.common_name)])


def names_of(grant: Grant) -> x509.SubjectAlternativeName:
    """The subject alternative names: the SPIFFE ID, then DNS names."""
    uri = x509.UniformResourceIdentifier(str(grant.spiffe_id))
    return x509.SubjectAlternativeName([uri, *map(x509.DNSName, grant.dns_names)])
