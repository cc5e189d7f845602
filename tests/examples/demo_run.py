# SPDX-License-Identifier: Apache-2.0
"""One run of the demo with a small load, as a process, and what it left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ("ROOT", "DemoRun", "start_demo")

ROOT = Path(__file__).parents[2]
_SMALL = ("--requests", "150", "--rotations", "2", "--connections", "4")


class DemoRun:
    """A finished run."""

    def __init__(self, status: int, output: str, build: Path) -> None:
        self.status = status
        self.output = output
        self.build = build

    @classmethod
    def of(cls, build: Path, *options: str) -> DemoRun:
        process = start_demo(build, *options)
        output, _ = process.communicate(timeout=120)
        return cls(process.returncode, output, build)

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.build / "demo.json").read_text())
        return document

    def wrong(self) -> dict[str, str]:
        """The cases whose outcome was not the expected one, by name."""
        cases = self.document["cases"]
        return {each["name"]: each["observed"] for each in cases if not _is_ok(each)}


def start_demo(build: Path, *options: str) -> subprocess.Popen[str]:
    build.mkdir(parents=True, exist_ok=True)
    keys = build / "keys"
    keys.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "examples.demo", *_SMALL, "--build", str(build), *options],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(keys)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _is_ok(case: dict[str, str]) -> bool:
    return case["expected"] == case["observed"]
