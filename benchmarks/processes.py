# SPDX-License-Identifier: Apache-2.0
"""Server processes of a benchmark: started on given cores, with their CPU time, ended for sure."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = (
    "LOAD_CPU",
    "SERVER_CPU",
    "Processes",
    "cpu_seconds",
    "free_port",
    "memory_mb",
    "on_core",
    "private_mb",
    "python",
)

CPUS = sorted(os.sched_getaffinity(0))
LOAD_CPU = CPUS[0]
SERVER_CPU = CPUS[min(1, len(CPUS) - 1)]


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def python(*arguments: str) -> list[str]:
    """The command that runs this Python."""
    return [sys.executable, *arguments]


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, in seconds, from the scheduler's own nanoseconds."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    return _status_mb(pid, "VmRSS")


def private_mb(pid: int) -> float:
    """Resident memory that is a process's own: without its libraries, which are files' pages."""
    return _status_mb(pid, "RssAnon") + _status_mb(pid, "RssShmem")


def _status_mb(pid: int, field: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (row,) = [line for line in status.splitlines() if line.startswith(f"{field}:")]
    return int(row.split()[1]) / 1024


@contextmanager
def on_core(cpu: int) -> Iterator[None]:
    """Run this process on one core for a while, apart from the server."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Processes:
    """The processes of one set-up under test."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - a full pipe would stop whoever logs

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[Processes]:
        """Own the processes that are started inside, and end them."""
        processes = cls()
        try:
            yield processes
        finally:
            processes.end()

    def start(self, command: Sequence[str], *, port: int, cpu: int = SERVER_CPU) -> int:
        """Start a command on one core, wait until it listens, and return its process ID."""
        process = subprocess.Popen(  # the commands are this module's own
            ["taskset", "-c", str(cpu), *command],
            stdout=subprocess.DEVNULL,
            stderr=self._log,
        )
        self._running.append(process)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"{command} ended with {process.returncode}: {self.log()}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return process.pid
            time.sleep(0.02)
        raise TimeoutError(f"{command} does not listen on {port}")

    def log(self) -> str:
        """The end of what they have logged."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-800:]

    def end(self) -> None:
        """Ask each to end, then make sure."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()
        self._log.close()
