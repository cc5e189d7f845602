# SPDX-License-Identifier: Apache-2.0
"""What each certificate of a path must be by itself, and what one must be to have signed another.

Rules:
    1. A check passes or raises `PathError` in one clause that names the certificate.
    2. Never laxer than OpenSSL at its default security level with partial chains.
    3. An extension that is critical and not handled here refuses the certificate; so does one that
       OpenSSL acts upon and this module does not, critical or not.
    4. Certificate policies and revocation are not evaluated, as OpenSSL does not by default.

Spec: RFC 5280 §4.2, §6.1.3, §6.1.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from kubetls_sdk._distinguished_name import canonical
from kubetls_sdk._profile import MALFORMED, find_extension, is_authority
from kubetls_sdk.exceptions import KubeTLSError

if TYPE_CHECKING:
    from datetime import datetime

__all__ = (
    "OutdatedError",
    "PathError",
    "SignatureMismatchError",
    "check_certificate",
    "check_issuer",
    "check_signature",
    "claims_to_be_a_root",
    "describe",
    "is_self_issued",
    "key_identifiers_agree",
)

_CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})
_MIN_RSA_BITS = 2048
_DIGESTS = frozenset({"sha224", "sha256", "sha384", "sha512"})
_SHOWN_SUBJECT = 100
_HANDLED = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.INHIBIT_ANY_POLICY,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.OCSP_NO_CHECK,
        ExtensionOID.POLICY_CONSTRAINTS,
        ExtensionOID.POLICY_MAPPINGS,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)
_REFUSED = frozenset(
    {
        x509.ObjectIdentifier("1.3.6.1.5.5.7.1.7"),  # IP address blocks, RFC 3779
        x509.ObjectIdentifier("1.3.6.1.5.5.7.1.8"),  # AS identifiers, RFC 3779
        x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14"),  # proxy certificates, RFC 3820
        x509.ObjectIdentifier("2.16.840.1.113730.1.1"),  # Netscape certificate type
    }
)


class PathError(KubeTLSError):
    """No valid path, or one certificate of it is refused; the message says which and why."""


class OutdatedError(PathError):
    """A certificate is expired or not yet valid."""


class SignatureMismatchError(PathError):
    """A certificate was signed by another key than the supposed issuer's."""


def check_certificate(certificate: x509.Certificate, *, now: datetime) -> None:
    """Check what holds for every certificate of a path: validity, extensions, key strength.

    Raises:
        PathError: The certificate cannot be part of a path.

    Spec: RFC 5280 §4.2, §6.1.3 (a)(2), §6.1.4 (o).
    """
    try:
        _ = certificate.subject, certificate.issuer  # Readable, or malformed here and now.
        _check_validity(certificate, now)
        for extension in certificate.extensions:
            _check_extension(certificate, extension)
        _check_key(certificate)
    except MALFORMED as err:
        raise PathError(f"{describe(certificate)} is malformed: {err}") from err


def check_issuer(issuer: x509.Certificate, *, intermediates_below: int) -> None:
    """Check that a certificate, of well-formed extensions, may sign others at its place.

    Args:
        issuer: The certificate above.
        intermediates_below: How many CAs that are not self-issued lie between it and the leaf.

    Raises:
        PathError: It may not.

    Spec: RFC 5280 §4.2.1.3, §4.2.1.9, §4.2.1.12, §6.1.4 (k) to (n).
    """
    if not is_authority(issuer):
        raise PathError(f"{describe(issuer)} is not a CA (basicConstraints)")
    usage = find_extension(issuer.extensions, x509.KeyUsage)
    if usage is not None and not usage.value.key_cert_sign:
        raise PathError(f"{describe(issuer)} may not sign certificates (KeyUsage)")
    purposes = find_extension(issuer.extensions, x509.ExtendedKeyUsage)
    both = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    if purposes is not None and not both <= set(purposes.value):
        raise PathError(f"{describe(issuer)} is not for TLS on both sides (ExtendedKeyUsage)")
    limit = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    if limit is not None and intermediates_below > limit:
        raise PathError(
            f"path length exceeded: {describe(issuer)} allows {limit} intermediates below it,"
            f" got {intermediates_below}"
        )


def check_signature(child: x509.Certificate, issuer: x509.Certificate) -> None:
    """Check that the issuer's key signed the child with an algorithm of sufficient strength.

    Raises:
        SignatureMismatchError: Another key signed it.
        PathError: The algorithm is weak or unknown, or the names of the two do not meet.

    Spec: RFC 5280 §6.1.3 (a)(1).
    """
    try:
        digest = child.signature_hash_algorithm  # None: the algorithm is Ed25519, as its key.
        if digest is not None and digest.name not in _DIGESTS:
            raise PathError(f"{describe(child)} is signed with {digest.name}, expected SHA-2")
        child.verify_directly_issued_by(issuer)
    except InvalidSignature as err:
        raise SignatureMismatchError(
            f"{describe(child)} is not signed by {describe(issuer)}"
        ) from err
    except MALFORMED as err:
        raise PathError(f"{describe(child)} has an unusable signature: {err}") from err


def key_identifiers_agree(child: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether the child's authority key identifier, if any, can mean this issuer.

    Spec: RFC 5280 §4.2.1.1, §4.2.1.2.
    """
    try:
        wanted = find_extension(child.extensions, x509.AuthorityKeyIdentifier)
        own = find_extension(issuer.extensions, x509.SubjectKeyIdentifier)
    except MALFORMED:
        return True  # `check_certificate` gives the reason.
    if wanted is None:
        return True
    named = wanted.value
    if named.key_identifier and own and named.key_identifier != own.value.digest:
        return False
    if named.authority_cert_serial_number not in (None, issuer.serial_number):
        return False
    directories = [
        n for n in named.authority_cert_issuer or () if isinstance(n, x509.DirectoryName)
    ]
    return not directories or canonical(directories[0].value) == canonical(issuer.issuer)


def is_self_issued(certificate: x509.Certificate) -> bool:
    """Tell whether subject and issuer are the same name (RFC 5280 §3.2)."""
    return canonical(certificate.subject) == canonical(certificate.issuer)


def claims_to_be_a_root(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate names itself as its issuer, by name and key identifier.

    OpenSSL follows no path further up from there, whoever signed it.
    """
    return is_self_issued(certificate) and key_identifiers_agree(certificate, certificate)


def describe(certificate: x509.Certificate) -> str:
    """Name a certificate for an error: its subject, or its serial number when that is empty."""
    try:
        subject = certificate.subject.rfc4514_string()
    except MALFORMED:
        subject = ""
    if not subject:
        return f"certificate with serial number {certificate.serial_number:x}"
    shown = subject if len(subject) <= _SHOWN_SUBJECT else f"{subject[:_SHOWN_SUBJECT]}..."
    return f"certificate {shown!r}"


def _check_validity(certificate: x509.Certificate, now: datetime) -> None:
    if now < certificate.not_valid_before_utc:
        since = certificate.not_valid_before_utc
        raise OutdatedError(
            f"{describe(certificate)} is not valid before {since:%Y-%m-%dT%H:%M:%SZ}"
        )
    if now > certificate.not_valid_after_utc:
        until = certificate.not_valid_after_utc
        raise OutdatedError(f"{describe(certificate)} expired at {until:%Y-%m-%dT%H:%M:%SZ}")


def _check_extension(
    certificate: x509.Certificate, extension: x509.Extension[x509.ExtensionType]
) -> None:
    name = extension.oid.dotted_string
    if extension.oid in _REFUSED:
        raise PathError(f"{describe(certificate)} has the unsupported extension {name}")
    if extension.critical and extension.oid not in _HANDLED:
        raise PathError(f"{describe(certificate)} has the unknown critical extension {name}")


def _check_key(certificate: x509.Certificate) -> None:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        raise PathError(f"{describe(certificate)} has a weak RSA key of {key.key_size} bits")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in _CURVES:
        raise PathError(f"{describe(certificate)} has a key on the curve {key.curve.name!r}")
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise PathError(f"{describe(certificate)} has a key that is not EC, RSA or Ed25519")
