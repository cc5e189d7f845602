# SPDX-License-Identifier: Apache-2.0
"""The rest of a gRPC call, read from its context only when a rule asks for it."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from kubetls_sdk.server.identity_headers import claims_identity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from kubetls_sdk.spiffe_id import SpiffeId
    from kubetls_sdk.users.user import User

__all__ = ("GrpcDetails", "address_of", "harmless", "headers_of")

_SCHEMES = ("ipv4", "ipv6")
_UNKNOWN_HOST = "?"  # as one of the wrong shape: neither the named one nor another one
_UNKNOWN_PORT: Any = math.nan  # likewise


class GrpcDetails:
    """Implements `kubetls_sdk.authz.Details`; metadata are the headers.

    What gRPC does not tell is unknown, not missing: an allow rule that asks for it does not match,
    and a deny rule does.

    Args:
        context: The servicer context.
        found: The end user, None without one.
        ports: Those of the server; None for one that is no TCP port.

    Attributes:
        is_touched: Whether anything was read.
        is_user_asked: Whether a rule has looked at the user.
    """

    __slots__ = ("_found", "_ports", "_unread", "is_touched", "is_user_asked")

    def __init__(
        self, context: Any, found: User | None = None, ports: Collection[int | None] = ()
    ) -> None:
        self._unread = context
        self._found = found
        self._ports = ports
        self.is_touched = False
        self.is_user_asked = False

    @property
    def _context(self) -> Any:
        self.is_touched = True
        return self._unread

    @property
    def host(self) -> str | None:
        """The `:authority`; gRPC keeps it from asyncio servers."""
        event = getattr(self._context, "_rpc_event", None)
        found = getattr(getattr(event, "call_details", None), "host", None)
        return found.decode("latin-1") if isinstance(found, bytes) and found else _UNKNOWN_HOST

    @property
    def port(self) -> int | None:
        """The port, where the server has only one: gRPC does not tell which one a call came to."""
        self.is_touched = True
        return next(iter(self._ports)) if len(self._ports) == 1 else _UNKNOWN_PORT

    @property
    def source(self) -> str | None:
        """The address of the other end, None when it is not an IP address."""
        scheme, _, rest = self._context.peer().partition(":")
        if scheme not in _SCHEMES:
            return None
        return unquote(rest).rpartition(":")[0].strip("[]")

    @property
    def headers(self) -> Iterable[tuple[bytes, bytes]]:
        """The metadata as sent, without claims of identity; binary values (`-bin`) decoded."""
        return headers_of(self._context)

    @property
    def forwarded(self) -> SpiffeId | None:
        """Nobody: gRPC servers believe no proxy."""
        self.is_touched = True
        return None

    @property
    def user(self) -> Mapping[str, object] | None:
        """The verified claims of the end user; None without one."""
        self.is_touched = self.is_user_asked = True
        return None if self._found is None else self._found.claims

    @property
    def resource(self) -> Mapping[str, object] | None:
        """Nothing: this is about the call."""
        self.is_touched = True
        return None

    @property
    def now(self) -> datetime:
        """The time of the question."""
        self.is_touched = True
        return datetime.now(UTC)


def headers_of(context: Any) -> list[tuple[bytes, bytes]]:
    """The metadata of a call as header fields, in their order."""
    return [(_bytes(key), _bytes(value)) for key, value in harmless(context.invocation_metadata())]


def harmless(metadata: Any) -> tuple[Any, ...]:
    """Metadata without the entries that claim an identity: they prove nothing."""
    return tuple(entry for entry in metadata or () if not claims_identity(_bytes(entry[0])))


def address_of(peer: str) -> str:
    """The address of the other end, as `host:port`, for logs; from gRPC's spelling."""
    scheme, _, rest = peer.partition(":")
    return unquote(rest) if scheme in _SCHEMES else peer


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8") if isinstance(text, str) else text
