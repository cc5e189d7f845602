# SPDX-License-Identifier: Apache-2.0
"""The thread of somebody who follows files.

Rules:
    1. Looks come at once, after each change and now and then; see `changes`.
    2. It outlives our bugs: a look that raises is logged.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from kubetls_sdk._watch import changes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ("Follower",)

_log = logging.getLogger(__name__)
_JOIN_SECONDS = 5.0


class Follower:
    """A thread that is started once.

    Args:
        name: Of the thread.
        look: What it does. It may come once more after `stop`, or beside one of another thread.
        poll_seconds: Look at least this often.

    Attributes:
        stop: Set when it is to end; whoever waits for something may wait for this.
    """

    def __init__(self, name: str, look: Callable[[], object], *, poll_seconds: float) -> None:
        self.stop = threading.Event()
        self._name = name
        self._look = look
        self._poll_seconds = poll_seconds
        self._thread: threading.Thread | None = None

    @property
    def is_new(self) -> bool:
        """Whether it was neither started nor told to stop."""
        return self._thread is None and not self.stop.is_set()

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, directories: Sequence[str]) -> None:
        """Follow these, absolute, which need not exist."""
        self._thread = threading.Thread(
            target=self._follow, args=(directories,), name=self._name, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Wait for its end; may be called twice, and by the thread itself."""
        self.stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_SECONDS)

    def disown(self) -> None:
        """In a forked child: the thread is not here."""
        self.stop.set()
        self._thread = None

    def _follow(self, directories: Sequence[str]) -> None:
        for _ in changes(directories, stop=self.stop, poll_seconds=self._poll_seconds):
            try:
                self._look()
            except Exception:  # noqa: BLE001 - the outermost loop: it must outlive our bugs
                _log.exception("%s: looking at %s failed", self._name, directories)
