# SPDX-License-Identifier: Apache-2.0
"""One connection that gets one answer, from strangers, within bounds: for probes and bundles.

Rules:
    1. One request for each connection; a bound on bytes and seconds.
    2. Beyond the bound on connections the oldest goes: whoever stalls cannot lock others out.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Connections", "OneAnswer")

_MAX_HEAD_BYTES = 8192


class Connections:
    """The open connections of a listener.

    Args:
        limit: How many at once.
        seconds: How long one may last.
        answer: Gets the head of a request, and returns all that is sent.
    """

    def __init__(self, limit: int, seconds: float, answer: Callable[[bytes], bytes]) -> None:
        self.seconds = seconds
        self.answer = answer
        self._limit = limit
        self._open: dict[asyncio.Transport, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, transport: asyncio.Transport) -> None:
        """Count a connection; the oldest goes when there are too many."""
        if len(self._open) >= self._limit:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.abort()
        self._open[transport] = None

    def discard(self, transport: asyncio.Transport) -> None:
        """A connection is gone."""
        self._open.pop(transport, None)

    def abort(self) -> None:
        """End them all."""
        for transport in list(self._open):
            transport.abort()


class OneAnswer(asyncio.Protocol):
    """Reads a head, answers, and closes."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; whatever happens, it ends in time."""
        self._transport = made = cast("asyncio.Transport", transport)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._connections.seconds, made.abort)
        self._connections.add(made)

    def data_received(self, data: bytes) -> None:
        """Answer once the head is complete."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._received += data
        if b"\r\n\r\n" in self._received[:_MAX_HEAD_BYTES]:
            head = self._received.partition(b"\r\n\r\n")[0]
            transport.write(self._connections.answer(head))
            transport.close()
        elif len(self._received) >= _MAX_HEAD_BYTES:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if self._deadline is not None:
            self._deadline.cancel()
        if self._transport is not None:
            self._connections.discard(self._transport)
            self._transport = None
