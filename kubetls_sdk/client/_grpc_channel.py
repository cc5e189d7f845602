# SPDX-License-Identifier: Apache-2.0
"""The threaded channel: a `grpc.Channel` that follows a source.

Rules:
    1. A call never begins on a core channel of a generation that lost an authority the server may
       rest on; what is still running there is ended after `GRACE_SECONDS`.
    2. Otherwise a new generation takes over once it is connected, so that a server that cannot be
       reached at that moment costs no call; what runs on the old one finishes there.
    3. Closing ends all calls of this channel and of no other.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc

from kubetls_sdk.client._grpc_call import StreamStream, StreamUnary, UnaryStream, UnaryUnary
from kubetls_sdk.client._grpc_idle import IdleChannels
from kubetls_sdk.client._grpc_threaded_core import ThreadedCore
from kubetls_sdk.exceptions import CredentialError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from kubetls_sdk.client._grpc_core import Settings
    from kubetls_sdk.client._grpc_threaded_core import Watcher
    from kubetls_sdk.source import Snapshot

__all__ = ("GRACE_SECONDS", "Channel")

GRACE_SECONDS = 5.0
"""How long what is running may go on after trust in its server may have ended."""

CONNECTING_SECONDS = 1.0
"""How long a generation has to connect before a newer one may take its turn."""

_log = logging.getLogger(__name__)
_idle: IdleChannels[ThreadedCore] = IdleChannels()


class Channel(grpc.Channel):
    """A `grpc.Channel` of `kubetls_sdk.client.grpc.secure_channel`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.RLock()
        self._core: ThreadedCore | None = _idle.take(settings) or ThreadedCore(settings)
        self._next: ThreadedCore | None = None
        self._draining: weakref.WeakSet[ThreadedCore] = weakref.WeakSet()
        self._watchers: list[Watcher] = []
        self._refused: Snapshot | None = None
        unsubscribe = settings.source.subscribe(_noticing(weakref.ref(self)))
        self._unsubscribe = weakref.finalize(self, unsubscribe)

    def unary_unary(self, *args: Any, **kwargs: Any) -> UnaryUnary:
        """As of `grpc.Channel`."""
        return UnaryUnary(self, "unary_unary", _positional(*args, **kwargs))

    def unary_stream(self, *args: Any, **kwargs: Any) -> UnaryStream:
        """As of `grpc.Channel`."""
        return UnaryStream(self, "unary_stream", _positional(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> StreamUnary:
        """As of `grpc.Channel`."""
        return StreamUnary(self, "stream_unary", _positional(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> StreamStream:
        """As of `grpc.Channel`."""
        return StreamStream(self, "stream_stream", _positional(*args, **kwargs))

    def subscribe(
        self,
        callback: Watcher,
        try_to_connect: bool | None = False,
    ) -> None:
        """As of `grpc.Channel`; a rotation shows as another connection being made."""
        with self._lock:
            self._watchers.append(callback)
            self._current().watch(callback, try_to_connect=bool(try_to_connect))

    def unsubscribe(self, callback: Watcher) -> None:
        """As of `grpc.Channel`."""
        with self._lock, contextlib.suppress(ValueError):
            self._watchers.remove(callback)
            if self._core is not None:
                self._core.unwatch(callback)

    def close(self) -> None:
        """As of `grpc.Channel`: calls of this channel end, and none begins any more."""
        with self._lock:
            core, self._core = self._core, None
            following, self._next = self._next, None
            if core is None:
                return
            self._unsubscribe()
        if core.is_busy or core.snapshot is not _snapshot(self._settings):
            core.close()
        else:
            core.unwatch()
            _idle.keep(core)
        for each in (following, *list(self._draining)):
            if each is not None:
                each.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.close()

    def enter(self, token: object) -> ThreadedCore:
        """Begin a call on the core channel of the moment.

        Raises:
            ValueError: The channel was closed.
            CredentialError: Trust has changed, and there is nothing to go on with.
        """
        while True:
            core = self._core
            if core is None or not core.is_current(time.monotonic()):
                core = self._current()
            if core.enter(token):
                return core

    def notice(self) -> None:
        """Look at a new generation now, so that no call has to."""
        with contextlib.suppress(CredentialError, ValueError):
            self._current()

    def _current(self) -> ThreadedCore:
        with self._lock:
            core = self._core
            if core is None:
                raise ValueError("Cannot invoke RPC on closed channel!")
            if core.is_current(time.monotonic()):
                return core
            snapshot = self._settings.source.snapshot
            if core.may_stay(snapshot, datetime.now(UTC)):
                self._prepare(snapshot)
                return core
            return self._replace(core, snapshot)

    def _prepare(self, snapshot: Snapshot) -> None:
        """Connect the next generation beside the current one."""
        following = self._next
        if self._refused is snapshot:
            return
        if following is not None:
            now = time.monotonic()
            if following.is_current(now) or now - following.made_at < CONNECTING_SECONDS:
                return  # a flood of generations waits for the one that is being connected
            following.drain()
        try:
            self._next = following = ThreadedCore(self._settings)
        except CredentialError as err:
            self._next, self._refused = None, snapshot
            _log.error("a channel keeps its last SVID, not that of a new generation: %s", err)
            return
        look = _promoting(weakref.ref(self), weakref.ref(following))
        following.watch(look, try_to_connect=True)

    def _replace(self, core: ThreadedCore, snapshot: Snapshot) -> ThreadedCore:
        """Leave a core channel at once: nothing may begin on it any more."""
        following, self._next = self._next, None
        if following is None or not following.is_current(time.monotonic()):
            if following is not None:
                following.drain()
            following = self._made(core)
        trusted = core.is_trusted(snapshot, datetime.now(UTC))
        self._switch(core, following, seconds=None if trusted else GRACE_SECONDS)
        return following

    def _made(self, core: ThreadedCore) -> ThreadedCore:
        try:
            return ThreadedCore(self._settings)
        except CredentialError:
            core.drain(seconds=GRACE_SECONDS)
            raise

    def promote(self, following: ThreadedCore) -> None:
        """Let a generation that is connected take over."""
        with self._lock:
            if self._next is following and self._core is not None:
                self._next = None
                self._switch(self._core, following, seconds=None)

    def _switch(
        self, core: ThreadedCore, following: ThreadedCore, *, seconds: float | None
    ) -> None:
        self._core = following
        for callback in self._watchers:
            core.unwatch(callback)
            following.watch(callback)
        self._draining.add(core)
        core.drain(seconds=seconds)


def _noticing(reference: weakref.ref[Channel]) -> Callable[[Snapshot], None]:
    def notice(_: Snapshot) -> None:
        channel = reference()
        if channel is not None:
            threading.Thread(target=channel.notice, daemon=True).start()

    return notice


def _promoting(reference: weakref.ref[Channel], following: weakref.ref[ThreadedCore]) -> Watcher:
    def look(state: grpc.ChannelConnectivity) -> None:
        channel, core = reference(), following()
        if state is grpc.ChannelConnectivity.READY and channel is not None and core is not None:
            core.unwatch(look)
            core.works = True
            channel.promote(core)

    return look


def _positional(
    method: str,
    request_serializer: Any = None,
    response_deserializer: Any = None,
    _registered_method: bool | None = False,
) -> tuple[Any, ...]:
    return method, request_serializer, response_deserializer, _registered_method


def _snapshot(settings: Settings) -> Snapshot | None:
    try:
        return settings.source.snapshot
    except CredentialError:
        return None
