# SPDX-License-Identifier: Apache-2.0
"""The process of `web` under load, see `examples.demo.web`, and what it has seen so far."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from examples.demonstration.child import Child, DemoError, until

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("LoadProgram", "Tally")

_END_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Tally:
    """What web has counted.

    Attributes:
        requests: Sent.
        failed: Those without the right answer.
        fresh: Those on a connection of their own.
        kept_alive: Connections that served several requests under one certificate, at most.
        failures: Why requests failed, and how often.
        ended: Whether this is the last line.
    """

    requests: int = 0
    failed: int = 0
    fresh: int = 0
    kept_alive: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    ended: bool = False


class LoadProgram:
    """`web`, calling orders without a pause until it is ended.

    Args:
        url: Of orders.
        volume: What is mounted.
        connections: How many it keeps alive.
        log: Where its output goes.
    """

    def __init__(self, url: str, volume: Path, *, connections: int, log: Path) -> None:
        self._child = Child(
            "web",
            [sys.executable, "-m", "examples.demo.web", url, str(connections)],
            log=log,
            environment={"KUBETLS_DIR": str(volume)},
        )
        self._output = log.open(encoding="utf-8")
        self._part = ""
        self._serials: dict[str, float] = {}
        self._tally = Tally()

    def tally(self) -> Tally:
        """What it has counted until now.

        Raises:
            DemoError: It has ended by itself.
        """
        self._read()
        if not self._tally.ended:
            self._child.check_alive()
        return self._tally

    def served_as(self, serial: int) -> float | None:
        """When orders first saw web's certificate with this serial number on a new connection."""
        self.tally()
        return self._serials.get(f"{serial:x}")

    def finish(self) -> Tally:
        """Let each request in flight have its answer, and return the last count.

        Raises:
            DemoError: It does not end.
        """
        self._child.interrupt()
        self._child.wait(_END_SECONDS)
        self._read()
        if not self._tally.ended:
            raise DemoError(f"web has not said how it ended; see {self._child.log}")
        return self._tally

    def wait_for(self, requests: int, timeout_seconds: float) -> bool:
        """Wait until it has sent so many."""
        return until(lambda: self.tally().requests >= requests, timeout_seconds, 0.05)

    def close(self) -> None:
        """End it, if it still runs."""
        self._child.end()
        self._output.close()

    def _read(self) -> None:
        *lines, self._part = (self._part + self._output.read()).split("\n")
        for line in lines:
            if line.startswith("{"):
                self._take(json.loads(line))

    def _take(self, line: dict[str, Any]) -> None:
        for serial, seen_at in line.pop("serials").items():
            self._serials.setdefault(serial, seen_at)
        self._tally = Tally(**line)
