# SPDX-License-Identifier: Apache-2.0
"""Ends living connections whose peer is not trusted any more, also when no request comes.

Rules:
    1. One sweep for all connections, at each new generation and every few seconds; no task and no
       timer belongs to a single connection or request.
    2. Whatever a refused connection carries has ended at most `seconds` after its certificate
       expired or its root was removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from typing import TYPE_CHECKING

from kubetls_sdk.server.refusal_log import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubetls_sdk.server.connection import PeerConnection
    from kubetls_sdk.source import Snapshot, Source

__all__ = ("Sweeper",)


class Sweeper:
    """Looks after the connections of one listener in one event loop.

    Args:
        source: Tells of new generations.
        seconds: The bound of rule 2; greater than 0.
    """

    def __init__(self, source: Source, seconds: float) -> None:
        self.seconds = seconds
        self.tick = seconds / 5
        self.grace = seconds - self.tick
        self._connections: weakref.WeakSet[PeerConnection] = weakref.WeakSet()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unsubscribe: Callable[[], None] | None = source.subscribe(self._wake)

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: PeerConnection) -> None:
        """Look after a connection until it is gone. Called in the event loop."""
        self._connections.add(connection)
        if self._timer is None:
            self._loop = asyncio.get_running_loop()
            self._timer = self._loop.call_later(self.tick, self._tick)

    def discard(self, connection: PeerConnection) -> None:
        """Forget a connection that is closed."""
        self._connections.discard(connection)

    def close(self) -> None:
        """Stop looking."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def sweep(self) -> None:
        """End every connection that is refused now."""
        now = time.time()
        for connection in list(self._connections):
            reason = connection.refusal(now)
            if reason is not None:
                self._connections.discard(connection)
                self._terminate(connection, reason)

    def _terminate(self, connection: PeerConnection, reason: str) -> None:
        try:
            connection.terminate(reason)
        except Exception:  # noqa: BLE001 - the other connections have to end as well
            log.exception("ending the connection of %s failed", connection.address)

    def _tick(self) -> None:
        self._timer = None
        self.sweep()
        if self._connections and self._loop is not None:
            self._timer = self._loop.call_later(self.tick, self._tick)

    def _wake(self, _: Snapshot) -> None:
        """A new generation, in any thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(self.sweep)
