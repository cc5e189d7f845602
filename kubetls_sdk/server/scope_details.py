# SPDX-License-Identifier: Apache-2.0
"""The rest of a request, read from the ASGI scope only when a rule asks for it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kubetls_sdk.server.end_user import USER_ASKED_KEY, USER_KEY
from kubetls_sdk.server.forwarded import FORWARDED_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kubetls_sdk.spiffe_id import SpiffeId

__all__ = ("ScopeDetails",)


class ScopeDetails:
    """Implements `kubetls_sdk.authz.Details`.

    Args:
        scope: Of an `http` or `websocket` connection.

    Attributes:
        is_touched: Whether anything was read.
    """

    __slots__ = ("_unread", "is_touched")

    def __init__(self, scope: Any) -> None:
        self._unread = scope
        self.is_touched = False

    @property
    def _scope(self) -> Any:
        self.is_touched = True
        return self._unread

    @property
    def host(self) -> str | None:
        """The `Host` field, or `:authority` as the server translates it."""
        for name, value in self._scope["headers"]:
            if name == b"host":
                text: str = value.decode("latin-1")
                return text
        return None

    @property
    def port(self) -> int | None:
        """The port that the connection was accepted on."""
        server = self._scope.get("server")
        return server[1] if server else None

    @property
    def source(self) -> str | None:
        """The address of the other end."""
        client = self._scope.get("client")
        return client[0] if client else None

    @property
    def headers(self) -> Iterable[tuple[bytes, bytes]]:
        """All header fields, without those that claim an identity."""
        fields: Iterable[tuple[bytes, bytes]] = self._scope["headers"]
        return fields

    @property
    def forwarded(self) -> SpiffeId | None:
        """On whose behalf the request came, where a named proxy told."""
        found = self._scope.get(FORWARDED_KEY)
        return None if found is None else found.spiffe_id

    @property
    def user(self) -> Mapping[str, object] | None:
        """The verified claims of the end user; None without one. The scope tells who asked."""
        scope = self._scope
        scope[USER_ASKED_KEY] = True
        found = scope.get(USER_KEY)
        return None if found is None else found.claims

    @property
    def resource(self) -> Mapping[str, object] | None:
        """Nothing: this is about the request."""
        self.is_touched = True
        return None

    @property
    def now(self) -> datetime:
        """The time of the question."""
        self.is_touched = True
        return datetime.now(UTC)
