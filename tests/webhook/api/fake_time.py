# SPDX-License-Identifier: Apache-2.0
"""An event loop whose clock jumps to the next timer when nothing else is to be done.

    result, seconds = run(lambda: scenario(double))

Hours pass in milliseconds, and in the same order each time. For code that waits only for timers
and for other tasks of the loop; a wait for a socket would never end and is refused.
"""

from __future__ import annotations

import asyncio
import selectors


class _Selector(selectors.SelectSelector):
    """Instead of waiting for a timer, moves the clock to it."""

    now = 1000.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("all tasks wait, and no timer is set: nothing will ever happen")
        if not ready and timeout > 0:
            self.now += timeout
        return ready


class FakeTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self._fake = _Selector()
        super().__init__(self._fake)

    def time(self):
        return self._fake.now


def clock():
    """The running loop's time, for code that takes a clock."""
    return asyncio.get_running_loop().time()


def run(scenario):
    """Run an async function to its end in fake time and return its result."""
    with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
        return runner.run(scenario())
