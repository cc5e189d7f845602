# SPDX-License-Identifier: Apache-2.0
"""A compact token, taken apart strictly; nothing in it is believed yet.

Rules:
    1. Compact JWS only: three segments of unpadded, canonical base64url (RFC 7515 §7.1).
    2. `crit` and `b64` are refused, encrypted tokens too: we understand no extension.
    3. Keys or places of keys in the header (`jwk`, `jku`, `x5c`, `x5u`) are never looked at.

Spec: RFC 7515 §4, §5.2; RFC 8725 §3.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kubetls_sdk.users.json_text import parse_object
from kubetls_sdk.users.user import InvalidTokenError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("MAX_KID_CHARACTERS", "Token", "is_clean", "shown")

MAX_KID_CHARACTERS: Final = 256
_COMPACT = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_REFUSED_PARAMETERS = ("crit", "b64", "enc", "zip")
_DIRTY = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """An unverified token.

    Attributes:
        text: The compact form.
        header: As claimed.
        claims: As claimed.
        algorithm: `alg`.
        kid: `kid`, None when there is none.
    """

    text: bytes
    header: Mapping[str, Any]
    claims: dict[str, Any]
    algorithm: str
    kid: str | None

    @classmethod
    def parse(cls, text: bytes) -> Token:
        """Take a token apart.

        Raises:
            InvalidTokenError: It breaks a rule of this module.
        """
        segments = _COMPACT.fullmatch(text)
        if segments is None:
            raise InvalidTokenError("expected three base64url segments")
        header = _segment("header", segments[1])
        claims = _segment("payload", segments[2])
        _decoded("signature", segments[3])
        for name in _REFUSED_PARAMETERS:
            if name in header:
                raise InvalidTokenError(f"expected no header parameter {name!r}")
        return cls(text, header, claims, _algorithm(header), _kid(header))

    @property
    def kind(self) -> str:
        """`typ` in lower case without `application/`; `absent` when there is none.

        Raises:
            InvalidTokenError: It is not a text.

        Spec: RFC 7515 §4.1.9.
        """
        typ = self.header.get("typ", "absent")
        if not isinstance(typ, str):
            raise InvalidTokenError("expected typ to be text")
        return typ.lower().removeprefix("application/")

    def __repr__(self) -> str:
        return f"<Token of {len(self.text)} bytes>"


def is_clean(value: object) -> bool:
    """Tell whether a value is a non-empty text without control characters and surrogates."""
    return isinstance(value, str) and bool(value) and _DIRTY.search(value) is None


def shown(value: object) -> str:
    """A claimed value for a log line: escaped and short."""
    text = ascii(value) if isinstance(value, str) else f"a {type(value).__name__}"
    return text if len(text) <= 120 else f"{text[:100]}..."


def _segment(name: str, segment: bytes) -> dict[str, Any]:
    try:
        return parse_object(_decoded(name, segment))
    except ValueError as err:
        raise InvalidTokenError(f"{name}: {err}") from None


def _decoded(name: str, segment: bytes) -> bytes:
    decoded = b""
    if len(segment) % 4 != 1:
        decoded = base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != segment:
        raise InvalidTokenError(f"{name}: expected canonical base64url")
    return decoded


def _algorithm(header: Mapping[str, Any]) -> str:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise InvalidTokenError("expected alg to be text")
    return algorithm


def _kid(header: Mapping[str, Any]) -> str | None:
    kid = header.get("kid")
    if kid is None and "kid" not in header:
        return None
    if not is_clean(kid) or len(str(kid)) > MAX_KID_CHARACTERS:
        raise InvalidTokenError("expected kid to be a short text")
    return str(kid)
