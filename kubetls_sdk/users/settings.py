# SPDX-License-Identifier: Apache-2.0
"""How users are authenticated: the settings as values. `document` reads them from YAML."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from kubetls_sdk.users.token_rules import Issuer, JwtSvids

__all__ = ("MAX_TOKEN_BYTES", "UserSettings")

MAX_TOKEN_BYTES: Final = 64 * 1024
_FIELD_NAME = re.compile(r"[a-z0-9][a-z0-9-]*", re.ASCII)
_NOT_FOR_TOKENS = frozenset({"cookie", "connection", "content-length", "host", "transfer-encoding"})


@dataclass(frozen=True, kw_only=True)
class UserSettings:
    """Which tokens authenticate users, and where they are.

    Attributes:
        issuers: Of access tokens, each name once.
        jwt_svids: JWT-SVIDs as well; None for none.
        header: The only field that may hold a token: `authorization` with `Bearer`, or another
            one that holds the token alone.
        max_token_bytes: Longer ones are refused unread.
        remembered: How many verified tokens are remembered.

    Raises:
        ConfigurationError: Nobody issues tokens, an issuer twice, or a value out of range.
    """

    issuers: tuple[Issuer, ...] = field(default=())
    jwt_svids: JwtSvids | None = None
    header: str = "authorization"
    max_token_bytes: int = 16 * 1024
    remembered: int = 4096

    def __post_init__(self) -> None:
        object.__setattr__(self, "issuers", tuple(self.issuers))
        names = [issuer.name for issuer in self.issuers]
        if len(set(names)) != len(names):
            raise ConfigurationError("expected each issuer once")
        if not names and self.jwt_svids is None:
            raise ConfigurationError("expected at least one issuer, or JWT-SVIDs")
        if not _FIELD_NAME.fullmatch(self.header) or self.header in _NOT_FOR_TOKENS:
            raise ConfigurationError(
                f"expected a header name in lower case for the token, got {self.header!r}"
            )
        if not 1 <= self.max_token_bytes <= MAX_TOKEN_BYTES:
            raise ConfigurationError(f"expected max_token_bytes from 1 to {MAX_TOKEN_BYTES}")
        if not self.remembered > 0:
            raise ConfigurationError("expected to remember at least one token")
