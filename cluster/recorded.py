# SPDX-License-Identifier: Apache-2.0
"""Processes that were written to a file, and are found again, or not, by another program.

Rules:
1. A process id alone means nothing: it is used again after some time, and after a reboot.
2. So what is recorded is the id and the moment of its start; only the very same process is ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

_PAUSE_SECONDS = 0.05
_STATE, _START = 0, 19  # Fields of /proc/PID/stat after the name; proc(5) counts from 3 there.
_DEAD = {"Z", "X"}


class Recorded(NamedTuple):
    """One process: its id, and when it started, in a form that is only compared."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Recorded:
        """What there is to say about a process that runs now."""
        return cls(pid, _started(pid) or "")

    @property
    def is_running(self) -> bool:
        """Whether this very process runs."""
        return bool(self.started) and _started(self.pid) == self.started

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.is_running:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def end(self, seconds: float) -> None:
        """Ask it to end, wait, and kill it when it does not end in time."""
        self.send(signal.SIGTERM)
        if not self.wait(seconds):
            self.send(signal.SIGKILL)
            self.wait(seconds)

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended; say whether it has."""
        deadline = time.monotonic() + seconds
        while self.is_running:
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE_SECONDS)
        return True


def _started(pid: int) -> str | None:
    """When a process started; None when there is no such process."""
    return _linux(pid) if sys.platform == "linux" else _elsewhere(pid)


def _linux(pid: int) -> str | None:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = status.rpartition(")")[2].split()  # The name may contain anything.
    if fields[_STATE] in _DEAD:
        return None
    # Ticks since boot, so the boot belongs to it.
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}:{fields[_START]}"


def _elsewhere(pid: int) -> str | None:
    command = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() or None
