# SPDX-License-Identifier: Apache-2.0
"""The unfinished handshakes of a listener: how many at once, and for how long.

Rules:
    1. Memory is bounded: beyond the limit the *oldest* unfinished handshake is dropped. Whoever
       stalls is the oldest; an honest peer needs milliseconds. Refusing the newest instead would
       let a handful of stalling connections lock everybody out.
    2. A server that shuts down does not wait for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from kubetls_sdk.server.refusal_log import count_handshake, log_refusal

if TYPE_CHECKING:
    from uvicorn.server import ServerState

__all__ = ("Handshakes", "Unfinished")


class Unfinished(Protocol):
    """A connection whose handshake is not complete."""

    address: str

    def abort(self) -> None:
        """Close the connection at once."""
        ...


class Handshakes:
    """Registry of unfinished handshakes.

    It puts *itself* into uvicorn's set of connections while there are any, as one entry: they
    end when the server shuts down, and strangers do not use up `limit_concurrency`.

    Args:
        limit: How many at once; at least 1.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._unfinished: dict[Unfinished, None] = {}  # in order of arrival
        self._connections: set[Any] = set()

    def __len__(self) -> int:
        return len(self._unfinished)

    def begin(self, gate: Unfinished, server_state: ServerState) -> None:
        """Add a new connection; drops the oldest when there are too many."""
        self._connections = cast("set[Any]", server_state.connections)
        self._connections.add(self)
        if len(self._unfinished) >= self.limit:
            self._drop(next(iter(self._unfinished)))
        self._unfinished[gate] = None

    def end(self, gate: Unfinished) -> None:
        """Remove a connection whose handshake ended, well or not."""
        self._unfinished.pop(gate, None)
        if not self._unfinished:
            self._connections.discard(self)

    def shutdown(self) -> None:
        """Abort them all; uvicorn calls this when it shuts down."""
        for gate in list(self._unfinished):
            gate.abort()
            self.end(gate)

    def _drop(self, gate: Unfinished) -> None:
        del self._unfinished[gate]
        gate.abort()
        count_handshake("failed", "too-many")
        log_refusal(
            "handshake",
            f"the oldest of more than {self.limit} unfinished handshakes",
            address=gate.address,
        )
