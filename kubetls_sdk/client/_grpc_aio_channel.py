# SPDX-License-Identifier: Apache-2.0
"""The asyncio channel: a `grpc.aio.Channel` that follows a source; rules as of `_grpc_channel`.

A channel belongs to the event loop that it was made in, as gRPC's own do.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
import weakref
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from grpc import ChannelConnectivity, aio

from kubetls_sdk.client._grpc_aio_call import StreamStream, StreamUnary, UnaryStream, UnaryUnary
from kubetls_sdk.client._grpc_channel import CONNECTING_SECONDS, GRACE_SECONDS
from kubetls_sdk.client._grpc_core import CoreChannel, Settings
from kubetls_sdk.client._grpc_idle import LINGER_SECONDS
from kubetls_sdk.exceptions import CredentialError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from types import TracebackType
    from typing import Self

    from kubetls_sdk.source import Snapshot

__all__ = ("AsyncChannel", "AsyncCore")

_DRAINING_SECONDS = 86400.0
_log = logging.getLogger(__name__)


class AsyncCore(CoreChannel):
    """A core channel, and how many calls run on it.

    Args:
        settings: See `CoreChannel`.
        interceptors: As of `grpc.aio.secure_channel`.
    """

    def __init__(self, settings: Settings, interceptors: Sequence[aio.ClientInterceptor]) -> None:
        make = functools.partial(aio.secure_channel, interceptors=interceptors)
        self.calls = 0
        super().__init__(settings, make)

    def leave(self, _: Any) -> None:
        """End a call."""
        self.calls -= 1

    async def close(self, grace: float | None) -> None:
        """Close when the calls have ended, and at the latest after some time."""
        await self.channel.close(grace)
        self.release()


class AsyncChannel(aio.Channel):
    """A `grpc.aio.Channel` of `kubetls_sdk.client.grpc.aio_secure_channel`."""

    def __init__(
        self, settings: Settings, interceptors: Sequence[aio.ClientInterceptor] = ()
    ) -> None:
        self._settings = settings
        self._interceptors = tuple(interceptors)
        self._loop = asyncio.get_running_loop()
        kept = None if self._interceptors else _take(settings, self._loop)
        self._core: AsyncCore | None = kept or self._make()
        self._next: AsyncCore | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._refused: Snapshot | None = None
        notice = _noticing(weakref.ref(self), self._loop)
        self._unsubscribe = weakref.finalize(self, settings.source.subscribe(notice))

    def unary_unary(self, *args: Any, **kwargs: Any) -> UnaryUnary:
        """As of `grpc.aio.Channel`."""
        return UnaryUnary(self, "unary_unary", args, kwargs)

    def unary_stream(self, *args: Any, **kwargs: Any) -> UnaryStream:
        """As of `grpc.aio.Channel`."""
        return UnaryStream(self, "unary_stream", args, kwargs)

    def stream_unary(self, *args: Any, **kwargs: Any) -> StreamUnary:
        """As of `grpc.aio.Channel`."""
        return StreamUnary(self, "stream_unary", args, kwargs)

    def stream_stream(self, *args: Any, **kwargs: Any) -> StreamStream:
        """As of `grpc.aio.Channel`."""
        return StreamStream(self, "stream_stream", args, kwargs)

    def get_state(self, try_to_connect: bool = False) -> ChannelConnectivity:
        """As of `grpc.aio.Channel`, of the connection that new calls use."""
        return self.current().channel.get_state(try_to_connect)  # type: ignore[no-any-return]

    async def wait_for_state_change(self, last_observed_state: ChannelConnectivity) -> None:
        """As of `grpc.aio.Channel`."""
        await self.current().channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """As of `grpc.aio.Channel`."""
        await self.current().channel.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """As of `grpc.aio.Channel`: no call begins any more; running ones have `grace` seconds."""
        core, self._core = self._core, None
        following, self._next = self._next, None
        if core is None:
            return
        self._unsubscribe()
        is_kept = core.calls == 0 and not self._interceptors and _is_current(core)
        closing = [each.close(grace) for each in (following,) if each is not None]
        if is_kept:
            _keep(core, self._loop)
        else:
            closing.append(core.close(grace))
        await asyncio.gather(*closing)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    def current(self) -> AsyncCore:
        """The core channel for a call that begins now.

        Raises:
            aio.UsageError: The channel was closed.
            CredentialError: Trust has changed, and there is nothing to go on with.
        """
        core = self._core
        if core is None:
            raise aio.UsageError("Channel is closed.")
        if core.is_current(time.monotonic()):
            return core
        snapshot = self._settings.source.snapshot
        core.works = core.channel.get_state() is ChannelConnectivity.READY
        if core.may_stay(snapshot, datetime.now(UTC)):
            self._prepare(snapshot)
            return core
        return self._replace(core, snapshot)

    def notice(self) -> None:
        """Look at a new generation now, so that no call has to."""
        with contextlib.suppress(CredentialError, aio.UsageError):
            self.current()

    def _make(self) -> AsyncCore:
        return AsyncCore(self._settings, self._interceptors)

    def _prepare(self, snapshot: Snapshot) -> None:
        """Connect the next generation beside the current one."""
        following = self._next
        if self._refused is snapshot:
            return
        if following is not None:
            now = time.monotonic()
            if following.is_current(now) or now - following.made_at < CONNECTING_SECONDS:
                return
            self._begin(following.close(None))
        try:
            self._next = following = self._make()
        except CredentialError as err:
            self._next, self._refused = None, snapshot
            _log.error("a channel keeps its last SVID, not that of a new generation: %s", err)
            return
        self._begin(self._promote(following))

    async def _promote(self, following: AsyncCore) -> None:
        """Let the next generation take over once it is connected."""
        with contextlib.suppress(aio.UsageError):  # it was closed meanwhile
            await following.channel.channel_ready()
        core = self._core
        if self._next is following and core is not None:
            self._next, self._core = None, following
            self._begin(core.close(_DRAINING_SECONDS))

    def _replace(self, core: AsyncCore, snapshot: Snapshot) -> AsyncCore:
        """Leave a core channel at once: nothing may begin on it any more."""
        following, self._next = self._next, None
        trusted = core.is_trusted(snapshot, datetime.now(UTC))
        self._begin(core.close(_DRAINING_SECONDS if trusted else GRACE_SECONDS))
        if following is not None and not following.is_current(time.monotonic()):
            self._begin(following.close(None))
            following = None
        self._core = following or self._make()
        return self._core

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


# Who owns a kept channel is its loop, by the timer that closes it: nothing outlives the loop.
_kept: weakref.WeakSet[_Kept] = weakref.WeakSet()


class _Kept:
    def __init__(self, core: AsyncCore, loop: asyncio.AbstractEventLoop) -> None:
        self.core: AsyncCore | None = core
        self.loop = weakref.ref(loop)
        self._timer = loop.call_later(LINGER_SECONDS, self._close)

    def take(self) -> AsyncCore | None:
        core, self.core = self.core, None
        self._timer.cancel()
        _kept.discard(self)
        return core

    def _close(self) -> None:
        core = self.take()
        if core is not None:
            asyncio.get_running_loop().create_task(core.close(None))


def _keep(core: AsyncCore, loop: asyncio.AbstractEventLoop) -> None:
    _kept.add(_Kept(core, loop))


def _take(settings: Settings, loop: asyncio.AbstractEventLoop) -> AsyncCore | None:
    for kept in list(_kept):
        core = kept.core
        fits = core is not None and kept.loop() is loop and core.settings.key == settings.key
        if core is not None and fits and core.is_current(time.monotonic()):
            return kept.take()
    return None


def _is_current(core: AsyncCore) -> bool:
    try:
        return core.is_current(time.monotonic())
    except CredentialError:
        return False


def _noticing(
    reference: weakref.ref[AsyncChannel], loop: asyncio.AbstractEventLoop
) -> Callable[[Snapshot], None]:
    def look() -> None:
        channel = reference()
        if channel is not None:
            channel.notice()

    def notice(_: Snapshot) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(look)

    return notice
