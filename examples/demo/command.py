# SPDX-License-Identifier: Apache-2.0
"""`python -m examples.demo`: run the main job, show it, and write `build/demo.json`.

Exits with 0 only when every outcome is the expected one.
"""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from examples.demo.admission import admission_cases
from examples.demo.endurance import endurance
from examples.demo.result import Result
from examples.demo.stage import Settings, stage
from examples.demonstration.conduct import conduct, kubetls_command, write_document
from examples.demonstration.log_folder import log_folder
from examples.demonstration.screen import screen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from examples.demo.result import Endurance
    from examples.demonstration.screen import Screen

__all__ = ("main",)

_CONTROL = "control: on stock uvicorn, where the attack has to succeed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit status."""
    options = _parser().parse_args(arguments)
    shown = screen()
    started_at = time.monotonic()

    def work() -> tuple[str, bool]:
        with log_folder(options.build / "demo-logs") as logs:
            result = _run(options, logs, shown)
        write_document(result.document(), options.build / "demo.json")
        return _summary(result, time.monotonic() - started_at), result.is_ok

    return conduct(work, shown)


def _run(options: argparse.Namespace, logs: Path, shown: Screen) -> Result:
    settings = Settings(
        kubetls=shlex.split(options.server_command),
        logs=logs,
        requests=options.requests,
        rotations=options.rotations,
        connections=options.connections,
    )
    with stage(settings, shown) as ready:
        shown.step("Calling orders: callers that it should serve, and callers that it should not")
        admission = admission_cases(ready)
        shown.table(f"Who gets in ({_CONTROL})", admission)
        shown.step("Asking for a user's orders: each request is right but for one thing")
        checks = ready.five_checks.cases()
        shown.table("The five checks on each request, by the wire and the audit log", checks)
        ready.five_checks.close()
        shown.step("Rotating everything while web calls orders without a pause")
        lasting = endurance(ready)
        shown.table(f"While everything rotates ({_CONTROL})", lasting.cases)
        shown.facts("A change of the volume is in effect on the wire after", _durations(lasting))
    return Result((*admission, *checks), lasting)


def _summary(result: Result, seconds: float) -> str:
    lasting = result.endurance
    wrong = sum(not case.is_ok for case in result.cases)
    outcome = f"{wrong} of {len(result.cases)} are wrong" if wrong else "as expected"
    return (
        f"outcomes: {outcome}; requests: {lasting.requests:,}, failed: {lasting.failed};"
        f" took {seconds:.0f} s"
    )


def _durations(lasting: Endurance) -> dict[str, str]:
    svid = lasting.svid
    return {
        f"SVID ({len(svid)} times)": f"{median(svid):.2f} s, at worst {max(svid):.2f} s",
        "root added": f"{lasting.root_added:.2f} s",
        "root removed": f"{lasting.root_removed:.2f} s",
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    add = parser.add_argument
    add("--requests", type=int, default=5000, help="under load, at least (%(default)s)")
    add("--rotations", type=int, default=20, help="of all SVIDs (%(default)s)")
    add("--connections", type=int, default=16, help="that are kept alive (%(default)s)")
    add("--build", type=Path, default=Path("build"), help="for demo.json and logs (%(default)s)")
    add("--server-command", default=kubetls_command(), help="started as kubetls, for orders")
    return parser
