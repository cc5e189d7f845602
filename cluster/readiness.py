# SPDX-License-Identifier: Apache-2.0
"""Wait until a program is ready, with a deadline, noticing at once when it has ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cluster.exceptions import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cluster.process import Process

_PAUSE_SECONDS = 0.05


def wait_ready(
    what: str, is_ready: Callable[[], bool], processes: Sequence[Process], seconds: float
) -> None:
    """Ask `is_ready` until it says yes.

    Raises:
        StartError: One of the processes ended, or the time is over; with the end of the log.
    """
    deadline = time.monotonic() + seconds
    while not is_ready():
        for process in processes:
            process.check()
        if time.monotonic() > deadline:
            logs = "\n".join(f"{each.log}:\n{each.log_tail()}" for each in processes)
            raise StartError(f"{what} was not ready within {seconds:g} s\n{logs}")
        time.sleep(_PAUSE_SECONDS)
