# SPDX-License-Identifier: Apache-2.0
"""What both forms of a forwarded certificate have in common: the error, the bounds, the parsing."""

from __future__ import annotations

from cryptography import x509

from kubetls_sdk._profile import MALFORMED
from kubetls_sdk.svid import MAX_CHAIN

__all__ = ("MAX_LENGTH", "MalformedFieldError", "check_length", "load_chain")

MAX_LENGTH = 32 * 1024
"""Bytes of all values together: ten certificates of the usual size."""


class MalformedFieldError(ValueError):
    """Header fields do not tell one certificate; the message never quotes them."""


def check_length(values: list[bytes]) -> None:
    """Refuse what is too long before it is looked at.

    Raises:
        MalformedFieldError: It is.
    """
    length = sum(map(len, values))
    if length > MAX_LENGTH:
        raise MalformedFieldError(f"expected at most {MAX_LENGTH} bytes, got {length}")


def load_chain(ders: list[bytes]) -> tuple[x509.Certificate, ...]:
    """Parse certificates, leaf first.

    Raises:
        MalformedFieldError: There are too many, or one is not X.509.
    """
    if not 1 <= len(ders) <= MAX_CHAIN:
        raise MalformedFieldError(f"expected 1 to {MAX_CHAIN} certificates, got {len(ders)}")
    try:
        return tuple(x509.load_der_x509_certificate(der) for der in ders)
    except MALFORMED:
        raise MalformedFieldError("expected X.509 certificates in DER") from None
