# SPDX-License-Identifier: Apache-2.0
"""One run of the edge example, as a process, and what it left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ("ROOT", "EdgeRun", "start_edge")

ROOT = Path(__file__).parents[2]


class EdgeRun:
    """A finished run."""

    def __init__(self, status: int, build: Path) -> None:
        self.status = status
        self.output = (build / "output").read_text()
        self.build = build

    @classmethod
    def of(cls, build: Path, *options: str) -> EdgeRun:
        return cls(start_edge(build, *options).wait(timeout=120), build)

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.build / "demo-edge.json").read_text())
        return document

    def wrong(self) -> dict[str, str]:
        """The cases whose outcome was not the expected one, by name."""
        return {
            each["name"]: each["observed"]
            for each in self.document["cases"]
            if each["expected"] != each["observed"]
        }


def start_edge(build: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start it; what it prints goes to the file `output`, so that nobody has to read a pipe."""
    keys = build / "keys"
    keys.mkdir(parents=True)
    with (build / "output").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "examples.edge", "--build", str(build), *options],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(keys)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
