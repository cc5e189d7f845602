# SPDX-License-Identifier: Apache-2.0
"""Distinguished names, compared as OpenSSL compares them.

Spec: RFC 5280 §7.1, in OpenSSL's reading: ASCII case, outer and repeated white space do not count.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ("canonical", "lower")

_SPACES = re.compile(r"[ \t\n\v\f\r]+")
_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def canonical(name: x509.Name) -> list[frozenset[tuple[x509.ObjectIdentifier, str | bytes]]]:
    """A value for each relative name, in order; equal for equal names, a prefix for a subtree."""
    return [
        frozenset((attribute.oid, _canonical_value(attribute.value)) for attribute in rdn)
        for rdn in name.rdns
    ]


def lower(text: str) -> str:
    """Lower-case ASCII letters only: no other character becomes one of them."""
    return text.translate(_ASCII_LOWER)


def _canonical_value(value: str | bytes) -> str | bytes:
    return value if isinstance(value, bytes) else _SPACES.sub(" ", lower(value)).strip(" ")
