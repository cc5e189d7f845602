# SPDX-License-Identifier: Apache-2.0
"""Wait for something to become true, with a deadline, instead of sleeping a guessed time."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
_pause = threading.Event()


def until(predicate: Callable[[], _T], timeout: float = 10.0, interval: float = 0.01) -> _T:
    """Call `predicate` until it returns something true, and return that.

    Raises:
        TimeoutError: It stayed false for `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"still {value!r} after {timeout} s")
        _pause.wait(interval)


async def eventually(predicate: Callable[[], _T], within: float = 10.0) -> _T:
    """Let the event loop run until `predicate` returns something true, and return that.

    Raises:
        TimeoutError: It stayed false for `within` seconds.
    """
    async with asyncio.timeout(within):
        while not (value := predicate()):  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.002)
        return value
