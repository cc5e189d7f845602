# SPDX-License-Identifier: Apache-2.0
"""`python -m examples.edge`: run the picture, show the table, write `build/demo-edge.json`.

Exits with 0 only when every outcome is the expected one. With `--serve` it goes on running, for a
browser.
"""

from __future__ import annotations

import argparse
import math
import shlex
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from examples.demonstration.conduct import conduct, kubetls_command, write_document
from examples.demonstration.log_folder import log_folder
from examples.demonstration.screen import screen
from examples.edge.inside_cases import inside_cases
from examples.edge.open_house import keep_open
from examples.edge.outside_cases import outside_cases
from examples.edge.partner_cases import partner_cases, removal_cases
from examples.edge.service import Place
from examples.edge.stage import stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from examples.demonstration.case import Case
    from examples.demonstration.screen import Screen
    from examples.edge.stage import Stage

__all__ = ("Result", "main")

_BROWSER_PORT, _MAX_PORT = 8443, 65_535


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that the demo reports.

    Attributes:
        cases: What came of each call.
        seconds: Until a partner that was removed was out.
    """

    cases: tuple[Case, ...]
    seconds: dict[str, float]

    @property
    def is_ok(self) -> bool:
        """Whether everything is as it ought to be."""
        return all(case.is_ok for case in self.cases)

    def document(self) -> dict[str, Any]:
        """The content of `build/demo-edge.json`."""
        seconds = {name: _rounded(value) for name, value in self.seconds.items()}
        cases = [asdict(case) for case in self.cases]
        return {"cases": cases, "seconds_to_effect": seconds, "ok": self.is_ok}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit status."""
    options = _parser().parse_args(arguments)
    shown = screen()
    started_at = time.monotonic()

    def work() -> tuple[str, bool]:
        default = _BROWSER_PORT if options.serve else 0
        port = default if options.port is None else options.port
        with ExitStack() as stack:
            logs = stack.enter_context(log_folder(options.build / "demo-edge-logs"))
            place = Place(shlex.split(options.server_command), options.build, logs)
            ready = stack.enter_context(stage(place, shown, port))
            result = _cases(ready, shown)
            write_document(result.document(), options.build / "demo-edge.json")
            summary = _summary(result, time.monotonic() - started_at)
            if options.serve:
                shown.verdict(summary, is_ok=result.is_ok)
                keep_open(ready, options.build)
                summary = "closed"
        return summary, result.is_ok

    return conduct(work, shown)


def _cases(ready: Stage, shown: Screen) -> Result:
    shown.step("Browser and app call the external API, which calls the internal API")
    outside = outside_cases(ready)
    shown.table("From outside", outside)
    shown.step("Trying to get inside by other ways")
    inside = inside_cases(ready)
    shown.table("Between outside and inside", inside)
    shown.step("Partners call the internal API")
    partners = partner_cases(ready)
    shown.table("Partners, each in a trust domain of its own", partners)
    shown.step("Trusting the partners no more")
    removals, seconds = removal_cases(ready)
    shown.table("Partners no more", removals)
    shown.facts(
        "A removal is in effect on the wire after",
        {name.replace("_", " "): f"{value:.2f} s" for name, value in seconds.items()},
    )
    return Result((*outside, *inside, *partners, *removals), seconds)


def _summary(result: Result, seconds: float) -> str:
    wrong = sum(not case.is_ok for case in result.cases)
    outcome = f"{wrong} of {len(result.cases)} are wrong" if wrong else "as expected"
    return f"outcomes: {outcome}; took {seconds:.0f} s"


def _rounded(seconds: float) -> float | None:
    """For JSON, which knows no infinity."""
    return round(seconds, 4) if math.isfinite(seconds) else None


def _port(text: str) -> int:
    if text.isdecimal() and int(text) <= _MAX_PORT:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a number from 0 to {_MAX_PORT}, got {text!r}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.edge", description=__doc__)
    add = parser.add_argument
    add("--serve", action="store_true", help="go on running, and open the page to a browser")
    add("--port", type=_port, help=f"for browsers (a free one; {_BROWSER_PORT} with --serve)")
    add("--build", type=Path, default=Path("build"), help="for the report and logs (%(default)s)")
    add("--server-command", default=kubetls_command(), help="started as kubetls, for both APIs")
    return parser
