# SPDX-License-Identifier: Apache-2.0
"""A process of the demo, whose output is a log that can be waited on.

Rules:
    1. A child is on the list of what has to be ended from its first moment on, also when the
       interruption comes while it starts.
    2. A child that ends early is an error that shows the last lines of its log.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING, TypeVar

from examples.demonstration.interruption import interruption

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = ("Child", "DemoError", "end_children", "until")

_T = TypeVar("_T")
_START_SECONDS = 20.0
_LAST_LINES = 12
_started: list[Child] = []


class DemoError(Exception):
    """The demo cannot go on; the message is for the person at the terminal."""


def until(look: Callable[[], _T], timeout_seconds: float, pause_seconds: float = 0.01) -> _T:
    """Call `look` until it returns something true; at the deadline return what it has."""
    deadline = time.monotonic() + timeout_seconds
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(pause_seconds)
    return found


def end_children() -> None:
    """End every child that still runs."""
    for child in _started:
        child.interrupt()
    while _started:
        _started.pop().end()


class Child:
    """A running process.

    Args:
        name: What a person calls it.
        command: Program and arguments.
        log: The file for everything it prints.
        environment: Variables beside our own ones.
        end_seconds: How long it may take to end when it is asked to.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        end_seconds: float = 8.0,
    ) -> None:
        self.name = name
        self._end_seconds = end_seconds
        self.log = log
        variables = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        try:
            with log.open("wb") as output, interruption.held():
                # A session of its own: Ctrl-C reaches only the demo, which ends its children.
                self._process = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=variables,
                    start_new_session=True,
                )
                _started.append(self)
        except OSError as err:
            raise DemoError(f"{name} could not be started: {command[0]}: {err.strerror}") from err

    def text(self) -> str:
        """Everything that it has printed so far."""
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern: str, timeout_seconds: float = _START_SECONDS) -> re.Match[str]:
        """Wait until it has printed something.

        Raises:
            DemoError: It ended, or the time is over.
        """

        def look() -> re.Match[str] | bool:
            has_ended = self._process.poll() is not None
            return re.search(pattern, self.text()) or has_ended

        found = until(look, timeout_seconds)
        if isinstance(found, re.Match):
            return found
        state = f"ended with status {self._process.returncode}" if found else "is not ready"
        raise DemoError(f"{self.name} {state}; the end of {self.log}:\n{self._last_lines()}")

    def wait(self, timeout_seconds: float) -> int:
        """Wait until it has ended by itself, and return its exit status.

        Raises:
            DemoError: It goes on.
        """
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            message = f"{self.name} has not ended within {timeout_seconds:.0f} s; see {self.log}"
            raise DemoError(message) from None

    def check_alive(self) -> None:
        """Make sure that it still runs.

        Raises:
            DemoError: It does not.
        """
        if self._process.poll() is not None:
            raise DemoError(
                f"{self.name} ended with status {self._process.returncode};"
                f" the end of {self.log}:\n{self._last_lines()}"
            )

    def interrupt(self) -> None:
        """Ask it to end, as Kubernetes does."""
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            self._process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """Ask it to end, and make it when it does not."""
        if self._process.poll() is not None:
            return
        self.interrupt()
        try:
            self._process.wait(self._end_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _last_lines(self) -> str:
        return "\n".join(f"    {line}" for line in self.text().splitlines()[-_LAST_LINES:])
