# SPDX-License-Identifier: Apache-2.0
"""The names in a certificate as text, also when the certificate was made to be unreadable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubetls_sdk._profile import MALFORMED

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ("issuer_text", "subject_text")

_UNREADABLE = "unreadable name"


def subject_text(certificate: x509.Certificate) -> str:
    """The subject by RFC 4514."""
    try:
        return certificate.subject.rfc4514_string()
    except MALFORMED:
        return _UNREADABLE


def issuer_text(certificate: x509.Certificate) -> str:
    """The issuer by RFC 4514."""
    try:
        return certificate.issuer.rfc4514_string()
    except MALFORMED:
        return _UNREADABLE
