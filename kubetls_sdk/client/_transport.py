# SPDX-License-Identifier: Apache-2.0
"""The transports of our clients: which pool, whose identity, which error.

They speak the transport API that httpx and httpx2 share, and use the library's own transports, one
for each pool, to do the work.

Rules:
    1. A URL that is refused is refused before anything connects.
    2. Nothing is ever sent twice.
    3. A new generation retires all pools at once, also when no request comes.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from kubetls_sdk.client._pools import Pools
from kubetls_sdk.client._refusal import explained
from kubetls_sdk.client._streams import stream_types
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.volume_source import VolumeSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from kubetls_sdk._context import ReloadingContext
    from kubetls_sdk.client._pools import Pool
    from kubetls_sdk.client._servers import Servers
    from kubetls_sdk.expectation import ExpectedPeer
    from kubetls_sdk.source import Snapshot, Source

__all__ = ("AsyncTransport", "SyncTransport")


class _Transport:
    """What the sync and the async transport share; does no I/O.

    Args:
        library: `httpx` or `httpx2`.
        servers: Who is expected where.
        source: Our identity; None for a `VolumeSource` of our own.
        make: Makes the library's transport around a context.
        alpn_protocols: What that transport will offer.
    """

    def __init__(
        self,
        library: ModuleType,
        servers: Servers,
        source: Source | None,
        *,
        make: Callable[[ReloadingContext], Any],
        alpn_protocols: Sequence[str],
    ) -> None:
        self._library = library
        self._servers = servers
        self._own_source: VolumeSource | None = None
        if source is None:
            source = self._own_source = VolumeSource()
        self._source = source
        self._pools = Pools(self._source, make, alpn_protocols=alpn_protocols)
        self._opening = threading.Lock()
        self._unsubscribe: Callable[[], object] | None = None

    def _expected(self, request: Any) -> ExpectedPeer:
        try:
            return self._servers.expected(request.url)
        except ConfigurationError as err:
            raise self._library.UnsupportedProtocol(str(err)) from err

    def _subscribe(self) -> None:
        """Hear of new generations, without being kept alive by the source."""
        reference = weakref.ref(self)

        def rotate(_: Snapshot) -> None:
            transport = reference()
            if transport is not None:
                transport._rotated()  # noqa: SLF001

        unsubscribe = self._source.subscribe(rotate)
        self._unsubscribe = weakref.finalize(self, unsubscribe)

    def _rotated(self) -> None:
        raise NotImplementedError

    def _explained(
        self, err: BaseException, request: Any, pool: Pool, handled: BaseException | None
    ) -> BaseException:
        if not isinstance(err, self._library.TransportError):
            return err
        return explained(
            err,
            self._library,
            own=pool.snapshot.svid.spiffe_id,
            has_answered=request.url.netloc in pool.answered,
            handled=handled,
        )

    def _answered(self, pool: Pool, request: Any, response: Any) -> bool:
        """Take note of a response; tell whether it still has to be read from its connection."""
        pool.answered.add(request.url.netloc)
        is_open = not getattr(response.stream, "is_complete", False)
        self._pools.answer(pool, response.extensions.get("verified_peer"), is_open=is_open)
        return is_open


class SyncTransport(_Transport):
    """The transport of `Client`; threads may share it."""

    def __enter__(self) -> SyncTransport:
        self._open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def handle_request(self, request: Any) -> Any:
        """Send one request to a server that proves the expected identity."""
        handled = sys.exc_info()[1]
        expected = self._expected(request)
        if self._unsubscribe is None:
            self._open()
        pool = self._pools.start(expected)
        try:
            response = pool.transport.handle_request(request)
        except BaseException as err:
            self._pools.fail(pool)
            self._sweep()
            clearer = self._explained(err, request, pool, handled)
            if clearer is err:
                raise
            raise clearer from clearer.__cause__
        if self._answered(pool, request, response):
            stream = stream_types(self._library)[0]
            response.stream = stream(response.stream, lambda: self._finish(pool))
        if self._pools.has_retired:
            self._sweep()
        return response

    def close(self) -> None:
        """Close all connections and, if it is ours, the source."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        self._pools.retire_all()
        self._sweep()
        if self._own_source is not None:
            self._own_source.close()

    def _open(self) -> None:
        with self._opening:
            if self._unsubscribe is None:
                if self._own_source is not None:
                    self._own_source.start()
                self._subscribe()

    def _rotated(self) -> None:
        self._pools.retire_older()
        self._sweep()

    def _finish(self, pool: Pool) -> None:
        self._pools.finish(pool)
        if self._pools.has_retired:
            self._sweep()

    def _sweep(self) -> None:
        if not self._pools.has_retired:
            return
        idle, ended = self._pools.take_idle()
        for pool in idle:
            pool.transport.close_idle()
        for pool in ended:
            pool.transport.close()


class AsyncTransport(_Transport):
    """The transport of `AsyncClient`, for asyncio and trio."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeping: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> AsyncTransport:
        await self._open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def handle_async_request(self, request: Any) -> Any:
        """Send one request to a server that proves the expected identity."""
        handled = sys.exc_info()[1]
        expected = self._expected(request)
        if self._unsubscribe is None:
            await self._open()
        pool = self._pools.start(expected, self._running_loop())
        try:
            response = await pool.transport.handle_async_request(request)
        except BaseException as err:
            self._pools.fail(pool)
            await self._sweep()
            clearer = self._explained(err, request, pool, handled)
            if clearer is err:
                raise
            raise clearer from clearer.__cause__
        if self._answered(pool, request, response):
            stream = stream_types(self._library)[1]
            response.stream = stream(response.stream, lambda: self._finish(pool))
        if self._pools.has_retired:
            await self._sweep()
        return response

    async def aclose(self) -> None:
        """Close all connections and, if it is ours, the source."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        self._pools.retire_all()
        await self._sweep()
        if self._own_source is not None:
            await anyio.to_thread.run_sync(self._own_source.close)

    async def _open(self) -> None:
        await anyio.to_thread.run_sync(self._open_blocking, abandon_on_cancel=True)

    def _open_blocking(self) -> None:
        with self._opening:
            if self._unsubscribe is None:
                if self._own_source is not None:
                    self._own_source.start()
                self._subscribe()

    def _running_loop(self) -> asyncio.AbstractEventLoop | None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:  # trio
            self._loop = None
        return self._loop

    def _rotated(self) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # closed in the meantime
                loop.call_soon_threadsafe(self._retire_older)

    def _retire_older(self) -> None:
        self._pools.retire_older()
        task = asyncio.ensure_future(self._sweep())
        self._sweeping.add(task)
        task.add_done_callback(self._sweeping.discard)

    async def _finish(self, pool: Pool) -> None:
        self._pools.finish(pool)
        if self._pools.has_retired:
            await self._sweep()

    async def _sweep(self) -> None:
        if not self._pools.has_retired:
            return
        idle, ended = self._pools.take_idle()
        with anyio.CancelScope(shield=True):
            for pool in idle:
                await pool.transport.aclose_idle()
            for pool in ended:
                with suppress(RuntimeError):  # the pool of an event loop that is closed
                    await pool.transport.aclose()
