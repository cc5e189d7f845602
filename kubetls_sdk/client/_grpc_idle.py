# SPDX-License-Identifier: Apache-2.0
"""Keeps closed channels for a short while, so that who opens one for each call still pays little.

Rules:
    1. A core channel belongs to one user's channel at a time; a kept one to nobody.
    2. Only a channel without calls is kept, and only given to the same source, generation, target,
       server identity and options.
    3. Kept ones are closed after `LINGER_SECONDS`, or when there are more than `MAX_KEPT`.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from kubetls_sdk.client._grpc_core import Settings

__all__ = ("LINGER_SECONDS", "MAX_KEPT", "IdleChannels")

LINGER_SECONDS = 10.0
MAX_KEPT = 32


class _Kept(Protocol):
    settings: Settings

    def is_current(self, now: float) -> bool: ...
    def close(self) -> None: ...


_Core = TypeVar("_Core", bound=_Kept)


class IdleChannels(Generic[_Core]):
    """The kept channels of a process, for threaded use."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[float, _Core]] = OrderedDict()
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None

    def take(self, settings: Settings) -> _Core | None:
        """Take a fitting one out, or None."""
        wanted, now = settings.key, time.monotonic()
        with self._condition:
            for number, (_, core) in reversed(self._kept.items()):
                if core.settings.key == wanted and core.is_current(now):
                    del self._kept[number]
                    return core
        return None

    def keep(self, core: _Core) -> None:
        """Keep one that has no calls and no subscriber."""
        excess = None
        with self._condition:
            self._kept[id(core)] = (time.monotonic() + LINGER_SECONDS, core)
            if len(self._kept) > MAX_KEPT:
                _, (_, excess) = self._kept.popitem(last=False)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kubetls-idle", daemon=True)
                self._thread.start()
        if excess is not None:
            excess.close()

    def _run(self) -> None:
        while (core := self._next()) is not None:
            core.close()

    def _next(self) -> _Core | None:
        with self._condition:
            while self._kept:
                number, (until, core) = next(iter(self._kept.items()))
                rest = until - time.monotonic()
                if rest <= 0:
                    del self._kept[number]
                    return core
                self._condition.wait(rest)
            self._thread = None
            return None
