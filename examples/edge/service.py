# SPDX-License-Identifier: Apache-2.0
"""The processes of the picture, each with the volume that is mounted for it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from examples.demonstration.child import Child, DemoError, until
from examples.demonstration.wire import is_open
from examples.edge.trail import Trail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("Api", "Place", "outcomes", "program", "served")

HERE = Path(__file__).parent
_ENDS_WITHIN_SECONDS, _LISTENS_WITHIN_SECONDS = 30.0, 5.0
_RUNNING = r"running on https://127\.0\.0\.1:(\d+)"
_PUBLIC = r"public listener on https://127\.0\.0\.1:(\d+)"


@dataclass(frozen=True, slots=True)
class Place:
    """What all processes are started with.

    Attributes:
        kubetls: The command that is started as `kubetls`.
        keys: A private directory.
        logs: Where logs and audit logs go.
    """

    kubetls: Sequence[str]
    keys: Path
    logs: Path

    def audit(self, name: str) -> Path:
        """The audit log of an API."""
        return self.logs / f"{name}-audit.jsonl"


class Api:
    """One of our APIs under `kubetls serve`.

    Args:
        name: `internal` or `external`.
        place: Where it runs.
        volume: What is mounted.
        options: More of `kubetls serve`.
        variables: Of its environment.
    """

    def __init__(
        self,
        name: str,
        place: Place,
        volume: Path,
        *,
        options: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        audit = place.audit(name)
        audit.unlink(missing_ok=True)
        self.trail = Trail(audit)
        command = (
            *(*place.kubetls, "serve", f"examples.edge.{name}:app"),
            *("--policy", str(HERE / f"{name}-policy.yaml")),
            *("--users", str(place.keys / "users.yaml"), "--audit-log", str(audit)),
            *("--host", "127.0.0.1", "--port", "0", *options),
        )
        self._child = Child(
            f"the {name} API",
            command,
            log=place.logs / f"{name}.log",
            environment={"KUBETLS_DIR": str(volume), **(variables or {})},
        )

    @cached_property
    def port(self) -> int:
        """Where workloads call; waits until it is ready.

        Raises:
            DemoError: It ends before.
        """
        self._child.wait_for("startup complete")
        return self._announced(_RUNNING)

    @cached_property
    def public_port(self) -> int:
        """Where everybody calls, if it has such a face."""
        return self._announced(_PUBLIC)

    def _announced(self, pattern: str) -> int:
        port = int(self._child.wait_for(pattern)[1])
        if not until(lambda: is_open(port), _LISTENS_WITHIN_SECONDS):
            raise DemoError(f"{self._child.name} does not listen on port {port}")
        return port

    def check_alive(self) -> None:
        """Make sure that it still runs.

        Raises:
            DemoError: It does not.
        """
        self._child.check_alive()

    def close(self) -> None:
        """End it."""
        self._child.end()


def program(name: str, arguments: Sequence[str], *, log: Path, volume: Path | None = None) -> Child:
    """Start a program of this example."""
    return Child(
        log.stem,
        [sys.executable, "-m", f"examples.edge.{name}", *arguments],
        log=log,
        environment={"KUBETLS_DIR": str(volume)} if volume else {},
    )


def served(child: Child) -> int:
    """The port on which a program listens; waits until it does."""
    return int(child.wait_for(_RUNNING)[1])


def outcomes(child: Child) -> dict[str, int | None]:
    """Wait for a calling program's end: the status of its call for each path.

    Raises:
        DemoError: It failed in another way than by a refusal.
    """
    if child.wait(_ENDS_WITHIN_SECONDS) != 0:
        raise DemoError(f"{child.name} failed, see {child.log}:\n{child.text()}")
    lines = [json.loads(line) for line in child.text().splitlines() if line.startswith("{")]
    return {line["path"]: line["status"] for line in lines}
