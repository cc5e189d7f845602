# SPDX-License-Identifier: Apache-2.0
"""Where in a request the token is: exactly one header field, never a query, body or cookie.

Spec: RFC 6750 §2.1, §5.3; RFC 9110 §11.4.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from kubetls_sdk.users.user import TokenRefused

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("AUTHORIZATION", "find_token")

AUTHORIZATION: Final = b"authorization"
_BEARER = re.compile(rb"bearer(?:$|[\t ])[\t ]*", re.IGNORECASE)
_SEVERAL = TokenRefused("expected one header field with a token, got several")
_TOO_LONG = TokenRefused("the token is too long")
_EMPTY = TokenRefused("expected a token after 'Bearer'")


def find_token(
    headers: Iterable[tuple[bytes, bytes]], name: bytes, max_bytes: int
) -> bytes | TokenRefused | None:
    """Find the token of a request.

    Args:
        headers: All fields, names in any case.
        name: The field, in lower case. `authorization` holds `Bearer <token>`, and another scheme
            is no token; another field holds the token alone.
        max_bytes: Longest token.

    Returns:
        The token, None without one, or why there is no telling.
    """
    size = len(name)
    values = [value for key, value in headers if len(key) == size and key.lower() == name]
    if not values:
        return None
    if len(values) > 1:
        return _SEVERAL
    token = values[0]
    if name == AUTHORIZATION:
        scheme = _BEARER.match(token)
        if scheme is None:
            return None
        token = token[scheme.end() :]
    if not token:
        return _EMPTY
    return token if len(token) <= max_bytes else _TOO_LONG
