# SPDX-License-Identifier: Apache-2.0
"""A core channel for threads: it knows its calls, and closes when the last one has ended."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc

from kubetls_sdk.client._grpc_core import CoreChannel

if TYPE_CHECKING:
    from kubetls_sdk.client._grpc_core import Settings

__all__ = ("ThreadedCore", "Watcher")

Watcher = Callable[[grpc.ChannelConnectivity], None]

_QUIET_SECONDS = 0.3  # gRPC's own thread looks at a channel that long after the last watcher left.


class ThreadedCore(CoreChannel):
    """A core channel, and the calls that run on it.

    Args:
        settings: See `CoreChannel`.
    """

    def __init__(self, settings: Settings) -> None:
        self._calls: set[object] = set()
        self._is_draining = False
        self._watchers: list[Watcher] = []
        self._quiet_at = 0.0
        super().__init__(settings, grpc.secure_channel)

    @property
    def is_busy(self) -> bool:
        """Whether a call is running."""
        return bool(self._calls)

    def enter(self, token: object) -> bool:
        """Begin a call; False when no more calls may begin here."""
        self._calls.add(token)  # before the question, so that `drain` sees it
        if self._is_draining:
            self.leave(token)
            return False
        return True

    def leave(self, token: object) -> None:
        """End a call."""
        self._calls.discard(token)
        if self._is_draining and not self._calls:
            self._close_soon()

    def note(self, call: Any) -> None:
        """Learn from how a call ended whether the connection works."""
        code = call.code()
        if code is not None and code is not grpc.StatusCode.CANCELLED:
            self.works = code is not grpc.StatusCode.UNAVAILABLE

    def watch(self, watcher: Watcher, *, try_to_connect: bool = False) -> None:
        """Tell somebody of the state of the connection."""
        self._watchers.append(watcher)
        self.channel.subscribe(watcher, try_to_connect)

    def unwatch(self, *watchers: Watcher) -> None:
        """Tell them no more, or nobody when none is named."""
        for watcher in watchers or tuple(self._watchers):
            self._quiet_at = time.monotonic() + _QUIET_SECONDS
            with contextlib.suppress(ValueError):
                self._watchers.remove(watcher)
            self.channel.unsubscribe(watcher)

    def close(self) -> None:
        """End its calls and close it; may be called twice."""
        self.unwatch()
        rest = self._quiet_at - time.monotonic()
        if rest > 0:
            threading.Event().wait(rest)
        self.channel.close()
        self.release()

    def drain(self, *, seconds: float | None = None) -> None:
        """Close when the last call has ended, and at the latest after some time."""
        self._is_draining = True
        if not self._calls:
            self._close_soon()
        elif seconds is not None:
            timer = threading.Timer(seconds, self.close)
            timer.daemon = True
            timer.start()

    def _close_soon(self) -> None:
        # In a thread of its own: this one may be gRPC's, which closing waits for.
        threading.Thread(target=self.close, daemon=True).start()
