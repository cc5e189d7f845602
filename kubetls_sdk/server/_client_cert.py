# SPDX-License-Identifier: Apache-2.0
"""`Client-Cert` and `Client-Cert-Chain`: a certificate that a proxy forwards, by RFC 9440.

Rules:
    1. Strict: no parameters, no line folding, padded base64 of the one alphabet.
    2. `Client-Cert` occurs once. The chain may be one field or several, as lists may; it comes
       only beside a certificate, and is no more than help to find a path.

Spec: RFC 9440 §2; RFC 8941 §3.1, §3.3.5.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from kubetls_sdk.server._forwarded_certificate import (
    MalformedFieldError,
    check_length,
    load_chain,
)

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ("read_client_cert",)

_SEQUENCE = re.compile(rb":([A-Za-z0-9+/]+={0,2}):")


def read_client_cert(leaf: list[bytes], chain: list[bytes]) -> tuple[x509.Certificate, ...]:
    """Read the certificates of a request.

    Args:
        leaf: The values of `Client-Cert`.
        chain: The values of `Client-Cert-Chain`.

    Returns:
        The client's certificate and what it sent with it; not verified in any way.

    Raises:
        MalformedFieldError: They are not by the standard.
    """
    check_length([*leaf, *chain])
    if len(leaf) != 1:
        raise MalformedFieldError(f"expected one Client-Cert field, got {len(leaf)}")
    items = [item for value in chain for item in value.split(b",")]
    return load_chain([_sequence(item.strip(b" \t")) for item in (leaf[0], *items)])


def _sequence(item: bytes) -> bytes:
    found = _SEQUENCE.fullmatch(item)
    if found is None:
        raise MalformedFieldError("expected a byte sequence in colons")
    try:
        return base64.b64decode(found[1], validate=True)
    except binascii.Error:
        raise MalformedFieldError("expected base64 in the colons") from None
