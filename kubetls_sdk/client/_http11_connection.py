# SPDX-License-Identifier: Apache-2.0
"""One HTTP/1.1 connection on asyncio: sends a request, hands out its response.

Rules:
    1. One request at a time; a connection that was interrupted is never used again.
    2. Both directions have back-pressure: a slow reader stops the server, a slow server the writer.
    3. What arrives while nothing was asked ends the connection.

Errors are those of `asyncio` and `ResponseError`; the transport turns them into a library's.
"""

from __future__ import annotations

import asyncio
import select
import ssl
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

from kubetls_sdk.client._http11_request import SLICE_BYTES, check_length, encode_body
from kubetls_sdk.client._http11_response import DISCONNECTED, ResponseError, ResponseReader
from kubetls_sdk.exceptions import CredentialError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from kubetls_sdk.source import Snapshot
    from kubetls_sdk.verification import VerifiedPeer

__all__ = ("Connection", "Key", "WriteTimeoutError")

_HIGH_WATER_BYTES = 256 * 1024
_NEVER = float("inf")


class WriteTimeoutError(TimeoutError):
    """The server did not take the request in time."""


class Key(NamedTuple):
    """Where a connection goes."""

    host: str
    port: int
    server_name: str


class Connection(asyncio.Protocol):
    """The protocol of one connection.

    Attributes:
        key: Where it goes.
        peer: Who the server proved to be.
        idle_since: Monotonic time of the last release, for the pool.
    """

    def __init__(self, key: Key) -> None:
        self.key = key
        self.peer: VerifiedPeer | None = None
        self.idle_since = 0.0
        self.transport: Any = None
        self._tls: Any = None
        self._snapshot: Snapshot | None = None  # whose bundles trust the server
        self._expires_at = _NEVER
        self._loop = asyncio.get_running_loop()
        self._reader: ResponseReader | None = None
        self._error: Exception | None = None  # what broke the connection
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = _NEVER
        self._is_lost = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TLS handshake is complete and the server is who it has to be."""
        self.transport = transport
        self.transport.set_write_buffer_limits(high=SLICE_BYTES)
        self._tls = transport.get_extra_info("ssl_object")
        self._snapshot = self._tls.snapshot
        self.peer = peer = self._tls.verified_peer
        self._expires_at = peer.expires_at.timestamp()

    def data_received(self, received: bytes) -> None:
        """Feed the response that is being read."""
        reader = self._reader
        if reader is None:
            self.close()
            return
        try:
            reader.feed(received)
        except ResponseError as err:
            self._error = err
            self.close()
        if reader.buffered > _HIGH_WATER_BYTES and not reader.is_complete:
            self.transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits for data, or for room to write."""
        self._is_lost = True
        if self._timer is not None:
            self._timer.cancel()
        if self._error is None:
            self._error = exc if exc is not None else self._at_eof()
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        """The write buffer is full."""
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """There is room again."""
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # What the transport calls.

    def is_usable(self) -> bool:
        """Tell whether another request may be sent: open, and the server still trusted."""
        if self._is_lost or self.transport.is_closing() or time.time() >= self._expires_at:
            return False
        return self._is_trusted()

    def has_unread(self) -> bool:
        """Tell whether the socket has something to say, which on an idle connection is its end."""
        if not hasattr(select, "poll"):  # Windows
            return False
        probe = select.poll()
        probe.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(probe.poll(0))

    async def send(
        self, head: bytes, body: AsyncIterable[bytes] | bytes, length: int, seconds: float | None
    ) -> None:
        """Send one request; returns early when the server has already answered it.

        Args:
            head: Encoded.
            body: Empty, whole or in parts.
            length: What the head promises, or `CHUNKED`.
            seconds: For each write to be taken.

        Raises:
            RequestError: The body is not as long as promised.
            WriteTimeoutError: The server takes nothing.
        """
        reader = self._reader = ResponseReader(is_head_only=head.startswith(b"HEAD "))
        if isinstance(body, bytes) and len(body) <= SLICE_BYTES:
            check_length(len(body), length)
            self.transport.write(head + body)
            return
        self.transport.write(head)
        async with aclosing(encode_body(body, length)) as parts:
            async for part in parts:
                if reader.status or self._is_lost:
                    self._give_up_after_this()
                    return
                self.transport.write(part)
                if self._writable is not None:
                    await self._drain(seconds)

    async def receive_head(self, seconds: float | None) -> ResponseReader:
        """Wait for the final response's head.

        Raises:
            TimeoutError: Nothing came for `seconds`.
            ResponseError: What came is not a response.
            OSError: The connection broke.
        """
        reader = self._reader
        if reader is None:
            raise RuntimeError("expected a request before its response")
        while not reader.status:
            await self._wait(seconds)
        return reader

    async def receive_body(self, seconds: float | None) -> bytes:
        """Return the next part of the body; empty at the end. Errors as of `receive_head`."""
        reader = self._reader
        if reader is None:
            raise RuntimeError("expected a request before its response")
        while not reader.chunks and not reader.is_complete:
            await self._wait(seconds)
        if reader.buffered > _HIGH_WATER_BYTES and not self.transport.is_closing():
            self.transport.resume_reading()
        return reader.take()

    def finish(self) -> bool:
        """End the exchange; tell whether the connection may be used for another one."""
        reader, self._reader = self._reader, None
        is_clean = reader is not None and reader.is_complete and reader.keeps_alive
        return is_clean and self._error is None and self.is_usable()

    def close(self) -> None:
        """Close without waiting for the server's goodbye."""
        if self.transport is not None:
            self.transport.abort()

    def _give_up_after_this(self) -> None:
        """The request was cut short: the server would take the next one for its rest."""
        self._expires_at = 0.0

    def _is_trusted(self) -> bool:
        """Whether the server's root is in the bundles in force: they may have changed meanwhile."""
        try:
            current = self._tls.context.source.snapshot
        except CredentialError:  # a closed source trusts nobody
            return False
        peer = self.peer
        if current is self._snapshot or peer is None:
            return peer is not None
        if current.bundles.anchor(peer.spiffe_id.trust_domain, peer.anchor_der) is None:
            return False
        self._snapshot = current
        return True

    def _has_said_goodbye(self) -> bool:
        """Whether TLS was ended by the server, and not TCP by anybody on the way."""
        try:
            return not self._tls.read(1)
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLError:
            return False

    def _at_eof(self) -> Exception | None:
        if self._reader is None:
            return ResponseError(DISCONNECTED)
        try:
            self._reader.feed_eof(is_authentic=self._has_said_goodbye())
        except ResponseError as err:
            return err
        return None

    async def _drain(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                while self._writable is not None:
                    await asyncio.shield(self._writable)
        except TimeoutError:
            raise WriteTimeoutError from None

    async def _wait(self, seconds: float | None) -> None:
        """Wait until something arrives or the connection ends."""
        if self._error is not None:
            raise self._error
        waiter = self._waiter = self._loop.create_future()
        self._deadline = _NEVER if seconds is None else self._loop.time() + seconds
        self._keep_deadline()
        try:
            await waiter
        finally:
            self._waiter = None
        if self._error is not None:
            raise self._error

    def _keep_deadline(self) -> None:
        """See to it that the wait ends in time. One timer serves many waits: it looks again."""
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and self._deadline != _NEVER:
            self._timer = self._loop.call_at(self._deadline, self._at_timer)

    def _at_timer(self) -> None:
        self._timer = None
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self._loop.time() < self._deadline:
            self._keep_deadline()
        else:
            waiter.set_exception(TimeoutError())

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
