# SPDX-License-Identifier: Apache-2.0
"""What every leaf has in common, made once: the constant extensions of the profile.

Spec: X509-SVID §4.1, §4.3, §4.4.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

__all__ = ("BOTH_ROLES", "KEY_USAGE", "Extension", "template")

Extension = x509.Extension[x509.ExtensionType]

KEY_USAGE: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
BOTH_ROLES: Final = x509.ExtendedKeyUsage(
    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
)
_CONSTRAINTS: Final = x509.BasicConstraints(ca=False, path_length=None)


def template(issuer: x509.Certificate) -> tuple[Extension, ...]:
    """The extensions that all leaves of an issuer have in common, encoded."""
    return (
        _encoded(_CONSTRAINTS, critical=True),
        _encoded(KEY_USAGE, critical=True),
        _encoded(BOTH_ROLES, critical=False),
        _encoded(_key_identifier(issuer), critical=False),
    )


def _encoded(value: x509.ExtensionType, *, critical: bool) -> Extension:
    """An extension of known bytes, which is written without asking what it means."""
    raw = x509.UnrecognizedExtension(value.oid, value.public_bytes())
    return x509.Extension(value.oid, critical, raw)


def _key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        key = issuer.public_key()
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)
