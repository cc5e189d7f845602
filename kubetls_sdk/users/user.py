# SPDX-License-Identifier: Apache-2.0
"""An authenticated end user, and the refusal of a token that authenticates nobody.

Rules:
    1. A user is the pair of issuer and subject: the same subject of two issuers is two users.
    2. Neither a user nor a refusal ever holds the token.
    3. Claims are frozen all the way down: one verified token serves many requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from kubetls_sdk.exceptions import KubeTLSError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = (
    "MAX_CLAIM_DEPTH",
    "NO_TOKEN_CHALLENGE",
    "InvalidTokenError",
    "TokenKind",
    "TokenRefused",
    "User",
    "frozen",
)

NO_TOKEN_CHALLENGE: Final = "Bearer"  # noqa: S105 - an HTTP scheme
"""`WWW-Authenticate` of a 401 for a request without token (RFC 6750 §3.1: no error code)."""


MAX_CLAIM_DEPTH: Final = 32


class TokenKind(StrEnum):
    """What proved the user."""

    ACCESS_TOKEN = "access-token"  # noqa: S105 - a kind, not a secret
    JWT_SVID = "jwt-svid"


@dataclass(frozen=True, slots=True, repr=False)
class User:
    """An end user.

    Attributes:
        issuer: Who vouches for the user: `iss`, or `spiffe://<trust domain>` of a JWT-SVID.
        subject: `sub`, unique within the issuer.
        claims: All verified claims, frozen; objects are mappings, arrays tuples. `iss` is `issuer`.
        expires_at: Aware UTC time from which the token is not accepted any more: `exp` and the
            clock skew that is allowed.
        token_kind: What proved the user.
    """

    issuer: str
    subject: str
    claims: Mapping[str, object]
    expires_at: datetime
    token_kind: TokenKind

    def __hash__(self) -> int:
        return hash((self.issuer, self.subject, self.expires_at))

    def __repr__(self) -> str:
        return f"<User {self.subject!r} of {self.issuer!r}>"


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """A request whose token authenticates nobody: 401, and the caller learns no more.

    Attributes:
        reason: Why, in one clause for the log; never text of the token.
    """

    reason: str

    @property
    def challenge(self) -> str:
        """`WWW-Authenticate` of the answer (RFC 6750 §3.1)."""
        return 'Bearer error="invalid_token"'


class InvalidTokenError(KubeTLSError):
    """A token authenticates nobody; `.reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def frozen(value: object, *, depth: int = MAX_CLAIM_DEPTH) -> object:
    """Make a JSON value immutable: objects as read-only mappings, arrays as tuples.

    Raises:
        InvalidTokenError: It is nested more than `depth` times.
    """
    if not isinstance(value, dict | list):
        return value
    if depth == 0:
        raise InvalidTokenError(f"expected claims that are nested at most {MAX_CLAIM_DEPTH} times")
    if isinstance(value, list):
        return tuple(frozen(each, depth=depth - 1) for each in value)
    return MappingProxyType({k: frozen(each, depth=depth - 1) for k, each in value.items()})
