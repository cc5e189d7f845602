# SPDX-License-Identifier: Apache-2.0
"""Ends living gRPC streams whose peer is not trusted any more, also when no message comes.

Rules:
    1. One thread for all streams of a server, and only while there are any.
    2. It looks at each new generation and every `seconds / 3`; a stream that did not end by itself
       at its next message is cancelled one look later, so all have ended after `seconds`.
"""

from __future__ import annotations

import logging
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubetls_sdk.server._grpc_admission import Admission
    from kubetls_sdk.source import Snapshot, Source

__all__ = ("Stream", "StreamWatch")

_log = logging.getLogger(__name__)


class Stream(Protocol):
    """A running call.

    Attributes:
        admission: What let it in.
        ends_at_once: It can be ended with a proper status at any time, not only between messages.
    """

    admission: Admission
    ends_at_once: bool

    def end(self) -> None:
        """Cancel it; called from the watching thread."""


class StreamWatch:
    """Looks after the streams of one server.

    Args:
        source: Tells of new generations.
        seconds: The bound of rule 2.

    Raises:
        ConfigurationError: The bound is not positive.
    """

    def __init__(self, source: Source, seconds: float) -> None:
        if not seconds > 0:
            raise ConfigurationError(f"expected stream_recheck > 0, got {seconds!r}")
        self._tick = seconds / 3
        self._streams: set[Stream] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        weakref.finalize(self, source.subscribe(_waker(self._wake)))

    def __len__(self) -> int:
        return len(self._streams)

    def add(self, stream: Stream) -> None:
        """Look after a stream until `discard`."""
        with self._lock:
            self._streams.add(stream)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="kubetls-grpc-streams", daemon=True
                )
                self._thread.start()

    def discard(self, stream: Stream) -> None:
        """Forget a stream that has ended."""
        with self._lock:
            self._streams.discard(stream)

    def _run(self) -> None:
        while not self._is_idle():
            self._wake.wait(self._tick)
            self._wake.clear()
            try:
                self._sweep()
            except Exception:  # noqa: BLE001 - the outermost loop: all streams depend on it
                _log.exception("looking after gRPC streams failed")

    def _is_idle(self) -> bool:
        with self._lock:
            if self._streams:
                return False
            self._thread = None
            return True

    def _sweep(self) -> None:
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            was_ended = stream.admission.ended is not None
            if stream.admission.refusal() is not None and (was_ended or stream.ends_at_once):
                self.discard(stream)
                stream.end()


def _waker(wake: threading.Event) -> Callable[[Snapshot], None]:
    def notice(_: Snapshot) -> None:
        wake.set()

    return notice
