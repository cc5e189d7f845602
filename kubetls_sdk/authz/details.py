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

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

__all__ = ("ACTION", "GRPC", "NO_DETAILS", "WEBSOCKET", "Details", "RequestDetails")

WEBSOCKET: Final = "websocket"
"""The method of a WebSocket handshake, for `decide`."""

GRPC: Final = "grpc"
"""The method of a gRPC call, for `decide`; the path is `/package.Service/Method`."""

ACTION: Final = "action"
"""The method of `authorize`: an action of the application on one of its resources."""


class Details(Protocol):
    """The rest of a request, as the rules may ask for it.

    Attributes:
        host: The `Host` header or `:authority`, with or without port.
        port: The port that the server accepted the connection on.
        source: The address of the connection's other end, as text.
        headers: All header fields, names in lower case, values as received.
        user: The verified claims of the end user, None without one.
        resource: Attributes of the application's own resource, for `authorize`.
        now: Aware time of the request, for time windows.
    """

    @property
    def host(self) -> str | None: ...  # noqa: D102
    @property
    def port(self) -> int | None: ...  # noqa: D102
    @property
    def source(self) -> str | None: ...  # noqa: D102
    @property
    def headers(self) -> Iterable[tuple[bytes, bytes]]: ...  # noqa: D102
    @property
    def user(self) -> Mapping[str, object] | None: ...  # noqa: D102
    @property
    def resource(self) -> Mapping[str, object] | None: ...  # noqa: D102
    @property
    def now(self) -> datetime | None: ...  # noqa: D102


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


NO_DETAILS: Final = RequestDetails()
