# SPDX-License-Identifier: Apache-2.0
"""When to look again: file notifications, and a clock for the mounts that send none.

The only module that imports watchfiles.

Rules:
    1. Directories are watched, never single files: a watch on a file that is replaced goes deaf.
    2. A directory that is removed and made again is another one: twice a second that is compared,
       and the new one is watched.
    3. Nothing is missed between a look and the watch: the state before the look is compared after.
    4. Where no watch can be set up (inotify limits, permissions), looking twice a second replaces
       it.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

import watchfiles

from kubetls_sdk._directory import identity

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

__all__ = ("changes",)

_log = logging.getLogger(__name__)
_TICK_SECONDS = 0.5
_STEP_MS = 30
_DEBOUNCE_MS = 200


def changes(
    directories: Sequence[str], *, stop: threading.Event, poll_seconds: float
) -> Iterator[None]:
    """Yield at once, and then whenever something in the directories may have changed.

    Args:
        directories: Absolute paths; they need not exist.
        stop: Ends the iteration within a tenth of a second.
        poll_seconds: Yield at least this often.
    """
    warned = False
    while not stop.is_set():
        seen = [identity(directory) for directory in directories]
        yield
        try:
            yield from _watched(directories, seen, stop, poll_seconds)
        except (OSError, RuntimeError) as err:
            if not warned:
                _log.warning("cannot watch %s (%s): looking twice a second", directories, err)
            warned = True
            stop.wait(min(poll_seconds, _TICK_SECONDS))


def _watched(
    directories: Sequence[str],
    seen: list[tuple[object, ...]],
    stop: threading.Event,
    poll_seconds: float,
) -> Iterator[None]:
    """Yield on changes until a directory is another one than the one that is watched."""
    tick = min(poll_seconds, _TICK_SECONDS)
    places = [each for each in directories if os.access(each, os.R_OK | os.X_OK)]
    if not places:
        stop.wait(tick)
        return
    started, next_poll = seen, time.monotonic()  # Look again once the watch is there: rule 3.
    for changed in watchfiles.watch(
        *places,
        watch_filter=None,
        debounce=_DEBOUNCE_MS,
        step=_STEP_MS,
        stop_event=stop,
        rust_timeout=max(1, int(tick * 1000)),
        yield_on_timeout=True,
        raise_interrupt=False,
        recursive=False,
        ignore_permission_denied=True,
    ):
        now = [identity(directory) for directory in directories]
        replaced = [state[:2] for state in now] != [state[:2] for state in started]
        # A new directory may have the inode number of the old one, whose removal is an event.
        if replaced or any(path in places for _, path in changed):
            return  # The caller looks, and watches what is there now.
        if changed or now != seen or time.monotonic() >= next_poll:
            seen, next_poll = now, time.monotonic() + poll_seconds
            yield
