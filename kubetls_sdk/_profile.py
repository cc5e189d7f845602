# SPDX-License-Identifier: Apache-2.0
"""The X.509-SVID profile of a leaf: what a certificate must be, apart from who signed it and when.

Rules:
    1. One answer for our own leaf, a peer's leaf in a handshake and a leaf checked offline.
    2. The result is the SPIFFE ID, or a violation in one clause that names the field.
    3. Nothing is skipped because OpenSSL checks it too: OpenSSL alone accepts two URI SANs,
       a CA as leaf, cRLSign and a missing KeyUsage.

Spec: X509-SVID §2, §4, §5.2; RFC 5280 §4.2.
"""

from __future__ import annotations

from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from kubetls_sdk.exceptions import KubeTLSError, SpiffeIdError
from kubetls_sdk.spiffe_id import SpiffeId

__all__ = (
    "MALFORMED",
    "ProfileViolation",
    "claimed_spiffe_id",
    "find_extension",
    "is_authority",
    "leaf_spiffe_id",
)

MALFORMED = (
    TypeError,  # a subject with an attribute of an impossible type
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the parser raises for a certificate that it cannot read, at once or on access."""

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


class ProfileViolation(KubeTLSError):  # noqa: N818 - internal; each caller turns it into its own error
    """A certificate breaks the profile; the message is the rule and what was found."""


def leaf_spiffe_id(leaf: x509.Certificate) -> SpiffeId:
    """Check the leaf profile and return the one SPIFFE ID that the certificate carries.

    Does not check the path, the validity or the signature.

    Raises:
        ProfileViolation: The certificate cannot be an X.509-SVID leaf.

    Spec: X509-SVID §2, §4.1, §4.3, §4.4, §5.2.
    """
    try:
        extensions = leaf.extensions
    except MALFORMED as err:
        raise ProfileViolation(f"expected well-formed extensions, got {err}") from err
    spiffe_id = _uri_san(extensions)
    _check_not_authority(extensions)
    _check_key_usage(extensions)
    _check_extended_key_usage(extensions)
    return spiffe_id


def claimed_spiffe_id(leaf: x509.Certificate) -> SpiffeId | None:
    """Return the identity that a certificate claims, for log lines about refused peers, or None."""
    try:
        return _uri_san(leaf.extensions)
    except (*MALFORMED, ProfileViolation):
        return None


def is_authority(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate may sign others: basicConstraints cA (RFC 5280 §4.2.1.9)."""
    constraints = find_extension(certificate.extensions, x509.BasicConstraints)
    return constraints is not None and constraints.value.ca


def find_extension(
    extensions: x509.Extensions, kind: type[_Extension]
) -> x509.Extension[_Extension] | None:
    """Return the extension of this kind, or None."""
    try:
        return extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def _uri_san(extensions: x509.Extensions) -> SpiffeId:
    names = find_extension(extensions, x509.SubjectAlternativeName)
    if names is None:
        raise ProfileViolation("expected a subject alternative name with a SPIFFE ID, got none")
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise ProfileViolation(f"expected exactly one URI SAN, got {len(uris)}")
    try:
        spiffe_id = SpiffeId.parse(uris[0])
    except SpiffeIdError as err:
        raise ProfileViolation(f"expected a SPIFFE ID as URI SAN: {err}") from err
    if not spiffe_id.path:
        raise ProfileViolation(f"expected a SPIFFE ID with a path, got {str(spiffe_id)!r}")
    return spiffe_id


def _check_not_authority(extensions: x509.Extensions) -> None:
    constraints = find_extension(extensions, x509.BasicConstraints)
    if constraints is not None and constraints.value.ca:
        raise ProfileViolation("expected a leaf certificate, got a CA (basicConstraints cA=true)")


def _check_key_usage(extensions: x509.Extensions) -> None:
    usage = find_extension(extensions, x509.KeyUsage)
    if usage is None:
        raise ProfileViolation("expected a KeyUsage extension, got none")
    if not usage.critical:
        raise ProfileViolation("expected KeyUsage to be critical")
    if not usage.value.digital_signature:
        raise ProfileViolation("expected KeyUsage digitalSignature")
    if usage.value.key_cert_sign or usage.value.crl_sign:
        raise ProfileViolation("expected KeyUsage without keyCertSign and cRLSign on a leaf")


def _check_extended_key_usage(extensions: x509.Extensions) -> None:
    usage = find_extension(extensions, x509.ExtendedKeyUsage)
    if usage is None:
        return
    both = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    if not both <= set(usage.value):
        raise ProfileViolation("expected ExtendedKeyUsage serverAuth and clientAuth")
