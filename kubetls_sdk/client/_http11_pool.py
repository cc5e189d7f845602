# SPDX-License-Identifier: Apache-2.0
"""The HTTP/1.1 connections of one pool on one event loop, with the limits that httpx has.

Rules:
    1. Every connection of a pool is made with the same context, for the same expected identity.
    2. The connection that was used last is used first, so that the surplus can expire.
    3. Who waits for a connection waits in order.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubetls_sdk.client._http11_connection import Connection

if TYPE_CHECKING:
    import ssl

    from kubetls_sdk.client._http11_connection import Key

__all__ = (
    "ConnectFailedError",
    "ConnectTimeoutError",
    "ConnectionPool",
    "PoolLimits",
    "PoolTimeoutError",
)

_HAPPY_EYEBALLS_SECONDS = 0.25  # RFC 8305 §8
_PROBE_AFTER_SECONDS = 0.5  # a server that hangs up does so after a pause


class PoolTimeoutError(TimeoutError):
    """All connections stayed in use."""


class ConnectTimeoutError(TimeoutError):
    """There was no connection, or no handshake, in time."""


class ConnectFailedError(Exception):
    """There is no connection; the cause says why, the refusal of a peer included."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of a pool.

    Attributes:
        connections: Of all, in use or idle.
        idle: Of those that are kept for later.
        idle_seconds: How long they are kept.
    """

    connections: float = float("inf")
    idle: float = float("inf")
    idle_seconds: float = float("inf")


class ConnectionPool:
    """Connections with one context.

    Args:
        context: Whose handshake verifies the server.
        limits: Bounds.
    """

    def __init__(self, context: ssl.SSLContext, limits: PoolLimits) -> None:
        self._context = context
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._options: dict[str, Any] = {}
        if isinstance(self._loop, asyncio.BaseEventLoop):  # uvloop does not have it
            self._options["happy_eyeballs_delay"] = _HAPPY_EYEBALLS_SECONDS
        self._idle: dict[Key, deque[Connection]] = {}
        self._in_use: set[Connection] = set()
        self._connecting = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._expiry: asyncio.TimerHandle | None = None

    async def acquire(
        self, key: Key, *, connect_timeout: float | None, pool_timeout: float | None
    ) -> Connection:
        """Return an idle connection, or make one.

        Raises:
            PoolTimeoutError: The limit is reached and nothing became free.
            ConnectTimeoutError: Connecting took too long.
            ConnectFailedError: Connecting or the handshake failed.
        """
        connection = self._take_idle(key)
        if connection is None:
            if not self._has_room():
                await self._wait_for_room(key, pool_timeout)
                connection = self._take_idle(key)
            if connection is None:
                connection = await self._connect(key, connect_timeout)
        self._in_use.add(connection)
        return connection

    def release(self, connection: Connection) -> None:
        """Take a connection back after its exchange; keep it if it can carry another."""
        self._in_use.discard(connection)
        if connection.finish() and self._idle_count() < self._limits.idle:
            connection.idle_since = time.monotonic()
            self._idle.setdefault(connection.key, deque()).append(connection)
            self._expire_later()
        else:
            connection.close()
        self._wake_one()

    def discard(self, connection: Connection) -> None:
        """Take a connection back whose exchange was interrupted."""
        self._in_use.discard(connection)
        connection.close()
        self._wake_one()

    def close_idle(self) -> None:
        """Close what is not in use."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    def close(self) -> None:
        """Close everything."""
        if self._expiry is not None:
            self._expiry.cancel()
        self.close_idle()
        for connection in list(self._in_use):
            connection.close()

    async def _connect(self, key: Key, seconds: float | None) -> Connection:
        self._connecting += 1
        connection = Connection(key)
        try:
            async with asyncio.timeout(seconds):
                await self._loop.create_connection(
                    lambda: connection,
                    key.host,
                    key.port,
                    ssl=self._context,
                    server_hostname=key.server_name,
                    **self._options,
                )
        except BaseException as err:
            connection.close()
            self._wake_one()
            if isinstance(err, TimeoutError):
                raise ConnectTimeoutError from None
            if isinstance(err, OSError):
                raise ConnectFailedError(str(err)) from err
            raise
        finally:
            self._connecting -= 1
        return connection

    def _take_idle(self, key: Key) -> Connection | None:
        connections = self._idle.get(key)
        earliest = time.monotonic() - self._limits.idle_seconds
        while connections:
            connection = connections.pop()
            if not connections:
                del self._idle[key]
            if connection.idle_since >= earliest and _is_alive(connection):
                return connection
            connection.close()
        return None

    def _has_room(self) -> bool:
        used = len(self._in_use) + self._connecting
        if used >= self._limits.connections:
            return False
        if used + self._idle_count() >= self._limits.connections:
            self._close_oldest()
        return True

    def _close_oldest(self) -> None:
        """Make room: an idle connection to elsewhere must not keep a request waiting."""
        key = min(self._idle, key=lambda key: self._idle[key][0].idle_since)
        connections = self._idle[key]
        connections.popleft().close()
        if not connections:
            del self._idle[key]

    async def _wait_for_room(self, key: Key, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                is_first_time = True
                while key not in self._idle and not self._has_room():
                    waiter: asyncio.Future[None] = self._loop.create_future()
                    (self._waiters.append if is_first_time else self._waiters.appendleft)(waiter)
                    is_first_time = False
                    await self._woken(waiter)
        except TimeoutError:
            raise PoolTimeoutError from None

    async def _woken(self, waiter: asyncio.Future[None]) -> None:
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self._wake_one()  # It was our turn, but we are not here any more.
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            raise

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _idle_count(self) -> int:
        return sum(map(len, self._idle.values()))

    def _expire_later(self) -> None:
        if self._expiry is None and self._limits.idle_seconds != float("inf"):
            self._expiry = self._loop.call_later(self._limits.idle_seconds, self._expire)

    def _expire(self) -> None:
        """Close what has been idle for too long, or whose server hung up."""
        self._expiry = None
        earliest = time.monotonic() - self._limits.idle_seconds
        for key, connections in list(self._idle.items()):
            kept = deque(c for c in connections if c.idle_since >= earliest and c.is_usable())
            for connection in connections:
                if connection not in kept:
                    connection.close()
            if kept:
                self._idle[key] = kept
            else:
                del self._idle[key]
        if self._idle:
            self._expire_later()


def _is_alive(connection: Connection) -> bool:
    """Tell whether a connection can be used, also when a busy loop has not noticed its end."""
    if not connection.is_usable():
        return False
    idle_seconds = time.monotonic() - connection.idle_since
    return idle_seconds < _PROBE_AFTER_SECONDS or not connection.has_unread()
