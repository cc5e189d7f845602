# SPDX-License-Identifier: Apache-2.0
"""A new root of a trust domain: the certificate that a CA pool begins with, and its key.

Rules:
    1. Two roots of one trust domain differ in subject, key and key identifier: a verifier that
       chooses issuers by name never tries the wrong one.
    2. A root signs leaves and nothing between (path length 0).
    3. No name constraints: the URI kind is refused as a whole, on the anchor too, by rustls and by
       `cryptography`'s own verifier (OpenSSL, BoringSSL and Go apply it). What it would add is
       there already: the peer's own trust domain decides the bundle.

Spec: X509-SVID §3.2, §4.1, §4.3; RFC 5280 §4.2.1.2, §4.2.1.3, §4.2.1.9.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kubetls_sdk.exceptions import ConfigurationError
from webhook.issuance.authority import Authority

if TYPE_CHECKING:
    from datetime import datetime

    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = (
    "BACKDATE",
    "DEFAULT_VALIDITY",
    "LONGEST_VALIDITY",
    "SHORTEST_VALIDITY",
    "RootKeyType",
    "authority_usage",
    "check_root_terms",
    "new_root",
    "root_key_type",
)

RootKeyType = Literal["p256", "p384"]

DEFAULT_VALIDITY: Final = timedelta(days=3 * 365)
SHORTEST_VALIDITY: Final = timedelta(days=365)
LONGEST_VALIDITY: Final = timedelta(days=10 * 365 + 3)
BACKDATE: Final = timedelta(minutes=5)
"""Clocks of nodes differ; a root that is not valid yet breaks every handshake."""

_CURVES: Final = {"p256": ec.SECP256R1, "p384": ec.SECP384R1}
_MAX_COMMON_NAME = 64


def new_root(
    trust_domain: TrustDomain,
    root_id: str,
    *,
    now: datetime,
    key_type: RootKeyType = "p256",
    validity: timedelta = DEFAULT_VALIDITY,
) -> Authority:
    """Make a root with a fresh key.

    Args:
        trust_domain: Whose leaves it signs.
        root_id: Goes into the subject; unique among the roots of the trust domain.
        now: Aware UTC time; the root is valid from a little before it.
        key_type: Of the root's key.
        validity: From `now` on, one to ten years.

    Raises:
        ConfigurationError: Another key type, or validity.
    """
    check_root_terms(key_type, validity)
    key = ec.generate_private_key(_CURVES[key_type]())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = _subject(trust_domain, root_id)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before((now - BACKDATE).replace(microsecond=0))
        .not_valid_after((now + validity).replace(microsecond=0))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(authority_usage(), critical=True)
        .add_extension(_names(trust_domain), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(key, hashes.SHA384() if key_type == "p384" else hashes.SHA256())
    )
    return Authority((certificate,), key, certificate)


def check_root_terms(key_type: str | None, validity: timedelta | None) -> None:
    """Refuse what no root of ours may have; None is what it has by itself.

    Raises:
        ConfigurationError: Another key type, or validity.
    """
    if key_type is not None and key_type not in _CURVES:
        raise ConfigurationError(f"expected a root key of {', '.join(_CURVES)}, got {key_type!r}")
    if validity is not None and not SHORTEST_VALIDITY <= validity <= LONGEST_VALIDITY:
        raise ConfigurationError(f"expected a root valid for 1 to 10 years, got {validity.days} d")


def root_key_type(root: x509.Certificate) -> RootKeyType:
    """The key type for the successor of a root: the same, or P-256 after any other kind."""
    key = root.public_key()
    is_p384 = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp384r1"
    return "p384" if is_p384 else "p256"


def authority_usage() -> x509.KeyUsage:
    """What the key of a CA of ours may do: sign certificates and revocation lists."""
    return x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(trust_domain: TrustDomain, root_id: str) -> x509.Name:
    """A common name of at most 64 characters that begins with the trust domain."""
    ending = f" root {root_id}"
    text = str(trust_domain)[: _MAX_COMMON_NAME - len(ending)] + ending
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _names(trust_domain: TrustDomain) -> x509.SubjectAlternativeName:
    uri = x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")
    return x509.SubjectAlternativeName([uri])
