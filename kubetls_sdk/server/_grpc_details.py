# SPDX-License-Identifier: Apache-2.0
"""The rest of a gRPC call, read from its context only when a rule asks for it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kubetls_sdk.users.user import User

__all__ = ("GrpcDetails", "address_of", "headers_of")

_SCHEMES = ("ipv4", "ipv6")


class GrpcDetails:
    """Implements `kubetls_sdk.authz.Details`; metadata are the headers.

    gRPC for Python tells neither `:authority` nor the port: rules that ask for them do not match.

    Args:
        context: The servicer context.
        found: The end user, None without one.

    Attributes:
        is_user_asked: Whether a rule has looked at the user.
    """

    __slots__ = ("_context", "_found", "is_user_asked")

    host: str | None = None
    port: int | None = None
    resource: Mapping[str, object] | None = None

    def __init__(self, context: Any, found: User | None = None) -> None:
        self._context = context
        self._found = found
        self.is_user_asked = False

    @property
    def source(self) -> str | None:
        """The address of the other end, None when it is not an IP address."""
        scheme, _, rest = self._context.peer().partition(":")
        if scheme not in _SCHEMES:
            return None
        return unquote(rest).rpartition(":")[0].strip("[]")

    @property
    def headers(self) -> Iterable[tuple[bytes, bytes]]:
        """The metadata as sent; binary values (`-bin`) decoded."""
        return headers_of(self._context)

    @property
    def user(self) -> Mapping[str, object] | None:
        """The verified claims of the end user; None without one."""
        self.is_user_asked = True
        return None if self._found is None else self._found.claims

    @property
    def now(self) -> datetime:
        """The time of the question."""
        return datetime.now(UTC)


def headers_of(context: Any) -> list[tuple[bytes, bytes]]:
    """The metadata of a call as header fields, in their order."""
    return [(_bytes(key), _bytes(value)) for key, value in context.invocation_metadata() or ()]


def address_of(peer: str) -> str:
    """The address of the other end, as `host:port`, for logs; from gRPC's spelling."""
    scheme, _, rest = peer.partition(":")
    return unquote(rest) if scheme in _SCHEMES else peer


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8") if isinstance(text, str) else text
