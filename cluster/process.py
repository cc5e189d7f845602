# SPDX-License-Identifier: Apache-2.0
"""One program of the cluster, running until it is ended or until we end.

Rules:
1. It gets the signal of no terminal: the order in which programs end is ours.
2. On Linux the kernel kills it when this process dies, however it dies.
3. Ending is SIGKILL: what it wrote is thrown away or was meant to survive just that.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from cluster.exceptions import PortTakenError, StartError

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_BEFORE = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
if os.getppid() != int(sys.argv[1]):  # It died before the kernel was told.
    os._exit(1)
for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(ignored_by_python, signal.SIG_DFL)
os.execvp(sys.argv[2], sys.argv[2:])
"""
_END_SECONDS = 10.0
# The kernel watches the *thread* that forked: one that lives as long as the process does.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cluster-starter")


class Process:
    """A named program with its log.

    Args:
        name: Short name for messages and for the log's file name.
        command: Program and arguments.
        log: File that receives its output (appended).
        environment: Variables on top of ours.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.log = log
        self._environment = {**os.environ, **(environment or {})}
        self._popen: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"Process({self.name!r}, pid={self.pid})"

    @property
    def pid(self) -> int | None:
        """The process id while it was started and not ended."""
        return self._popen.pid if self._popen else None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended by itself."""
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        """Start it; it must not be running."""
        self._popen = _starter.submit(self._start).result()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own command line
                [*_dying_with(os.getpid()), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                process_group=0,
            )

    def end(self) -> None:
        """End it now and wait until it is gone; harmless when it is not running."""
        popen, self._popen = self._popen, None
        if popen is not None:
            popen.kill()
            popen.wait(_END_SECONDS)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, for example SIGSTOP to see what a hanging program does to others."""
        if self._popen is not None:
            self._popen.send_signal(number)

    def check(self) -> None:
        """See that it has not ended by itself.

        Raises:
            PortTakenError: It ended because its port is in use.
            StartError: It ended for another reason.
        """
        if self.is_running:
            return
        tail = self.log_tail()
        error = PortTakenError if "address already in use" in tail else StartError
        raise error(f"{self.name} ended by itself; the end of {self.log}:\n{tail}")

    def log_tail(self, lines: int = 12) -> str:
        """The last lines of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def _dying_with(parent: int) -> list[str]:
    """What runs before the program in its process: have the kernel kill it when the parent dies.

    Not `preexec_fn`: that forks with all handlers of fork, and with threads of gRPC waits for ever.
    """
    if sys.platform != "linux":
        return []
    return [sys.executable, "-I", "-S", "-c", _BEFORE, str(parent)]
