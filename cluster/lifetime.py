# SPDX-License-Identifier: Apache-2.0
"""What the harness started ends with this process, also when a signal ends it.

Rules:
1. An owner is anything with `close()`; the newest is closed first; closing twice is harmless.
2. SIGTERM and SIGHUP close all owners and then end the process as they would have without us.
3. A program that handles these signals itself keeps its own handling.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Owner(Protocol):
    """Something that owns programs or folders."""

    def close(self) -> None:
        """End and remove all that is owned."""


_owners: list[Owner] = []


class Owned:
    """What runs for the length of a `with` block, and no longer than this process.

    A subclass says how it starts (`_start`) and how it ends (`close`, which may be called twice and
    after a start that failed half-way).
    """

    def __enter__(self) -> Self:
        adopt(self)
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self) -> None:
        """Start; nothing by default."""

    def close(self) -> None:
        """End; a subclass ends its own first."""
        release(self)


def adopt(owner: Owner) -> None:
    """Close `owner` when a signal ends this process."""
    _owners.append(owner)
    if threading.current_thread() is not threading.main_thread():
        return  # Only the main thread may set handlers; the kernel's death signal still holds.
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def release(owner: Owner) -> None:
    """Forget an owner that was closed."""
    if owner in _owners:
        _owners.remove(owner)


def _end(number: int, _frame: FrameType | None) -> None:
    while _owners:
        _owners.pop().close()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
