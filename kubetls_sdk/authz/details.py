# SPDX-License-Identifier: Apache-2.0
"""What a rule may ask about a request beyond caller, method and path.

Rules:
    1. Attributes are read only when a rule needs them, so an edge may compute them lazily.
    2. None, an empty text or an absent header is a *missing* attribute: it never satisfies a
       positive condition.
    3. WebSocket handshakes, gRPC calls and the application's own actions have pseudo-methods that
       no HTTP request can spell, so an allow rule for `GET` never opens a WebSocket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from kubetls_sdk.spiffe_id import SpiffeId

__all__ = (
    "ACTION",
    "GRPC",
    "NO_DETAILS",
    "PSEUDO_METHODS",
    "WEBSOCKET",
    "Details",
    "RequestDetails",
)

WEBSOCKET: Final = "websocket"
"""The method of a WebSocket handshake, for `decide`."""

GRPC: Final = "grpc"
"""The method of a gRPC call, for `decide`; the path is `/package.Service/Method`."""

ACTION: Final = "action"
"""The method of `authorize`: an action of the application on one of its resources."""

PSEUDO_METHODS: Final = frozenset({WEBSOCKET, GRPC, ACTION})


class Details(Protocol):
    """The rest of a request, as the rules may ask for it; read only when a rule does."""

    @property
    def host(self) -> str | None:
        """The `Host` header or `:authority`, with or without port."""

    @property
    def port(self) -> int | None:
        """The port that the server accepted the connection on."""

    @property
    def source(self) -> str | None:
        """The address of the connection's other end, as text."""

    @property
    def headers(self) -> Iterable[tuple[bytes, bytes]]:
        """All header fields, names in any case, values as received."""

    @property
    def user(self) -> Mapping[str, object] | None:
        """The verified claims of the end user, None without one."""

    @property
    def resource(self) -> Mapping[str, object] | None:
        """Attributes of the application's own resource, for `authorize`."""

    @property
    def now(self) -> datetime | None:
        """Aware time of the request, for time windows."""

    @property
    def forwarded(self) -> SpiffeId | None:
        """On whose behalf a proxy calls that is believed about it; never the caller itself."""


@dataclass(frozen=True, slots=True)
class RequestDetails:
    """`Details` as plain values; everything that is not given is missing."""

    host: str | None = None
    port: int | None = None
    source: str | None = None
    headers: Iterable[tuple[bytes, bytes]] = ()
    user: Mapping[str, object] | None = None
    resource: Mapping[str, object] | None = None
    now: datetime | None = None
    forwarded: SpiffeId | None = None


NO_DETAILS: Final = RequestDetails()
