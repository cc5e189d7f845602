# SPDX-License-Identifier: Apache-2.0
"""A connection as uvicorn has it: how to end it, and which requests are under way on it.

Rules:
    1. What uvicorn's protocols know is read when the policy has changed, never at a request.
    2. A protocol that is not uvicorn's own is not read: then each request is written down.
    3. What cannot be told is said so (None), not guessed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Line", "can_tell_requests")


class Line:
    """One connection.

    Args:
        transport: Encrypted.
        grace: Seconds that what is under way may take to finish.
    """

    __slots__ = ("_grace", "_transport")

    def __init__(self, transport: asyncio.Transport, grace: float) -> None:
        self._transport = transport
        self._grace = grace

    def end(self, has_websockets: bool) -> None:
        """Let a response that is under way finish in time, then close whatever is left.

        `shutdown` is what uvicorn calls on each of its protocols for a graceful stop.
        """
        protocol: Any = self._transport.get_protocol()
        asyncio.get_running_loop().call_later(self._grace, self._transport.abort)
        if protocol is not None and not has_websockets:
            protocol.shutdown()

    def requests(self) -> list[tuple[Any, Callable[[], None]]] | None:
        """The scopes of the HTTP requests under way, with how to end each; None: cannot be told."""
        protocol: Any = self._transport.get_protocol()
        if getattr(protocol, "pipeline", None):  # httptools: what runs is not the latest cycle
            return None
        cycles = getattr(protocol, "cycles", None)
        if cycles is not None:  # HTTP/2
            running = [cycle for cycle in cycles.values() if not cycle.response_complete]
            return [(cycle.scope, self._resetting(cycle)) for cycle in running]
        cycle = getattr(protocol, "cycle", None)
        if cycle is None or cycle.response_complete:
            return []
        return [(cycle.scope, self._end_response)]

    def _end_response(self) -> None:
        self.end(False)

    def _resetting(self, cycle: Any) -> Callable[[], None]:
        """End one stream of HTTP/2: what else runs on the connection goes on."""

        def reset() -> None:
            if not cycle.response_complete and not cycle.disconnected:
                cycle.abort_stream()
                cycle.message_event.set()

        def end() -> None:
            asyncio.get_running_loop().call_later(self._grace, reset)

        return end


def can_tell_requests(protocol_class: type) -> bool:
    """Whether `Line.requests` can read the protocols that a class makes."""
    return any(
        kind.__module__.startswith("uvicorn.protocols.http.") for kind in protocol_class.__mro__
    )
