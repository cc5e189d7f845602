# SPDX-License-Identifier: Apache-2.0
"""`python -m examples.partner`: all ways, as real processes over loopback.

It exits with 0 only when every outcome is the expected one. Name a way to run only that.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from examples.demonstration.conduct import conduct
from examples.demonstration.screen import screen
from examples.partner import bundle_endpoint, bundle_files, cross_signing, issuing
from examples.partner.terminal import Terminal
from examples.partner.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.demonstration.case import Case
    from examples.demonstration.screen import Screen

_WAYS = {
    "files": ("Exchange trust bundles, as files", bundle_files.show),
    "endpoint": ("Exchange trust bundles, by an endpoint", bundle_endpoint.show),
    "cross-sign": ("Sign the partner's CA with ours", cross_signing.show),
    "issue": ("Issue for a single workload of a partner", issuing.show),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.partner", description=__doc__)
    parser.add_argument("ways", nargs="*", type=_way, metavar="|".join(_WAYS))
    ways = parser.parse_args().ways or _WAYS
    shown = screen()

    def work() -> tuple[str, bool]:
        cases = [case for way in ways for case in _shown(way, shown)]
        wrong = sum(not case.is_ok for case in cases)
        outcome = f"{wrong} of {len(cases)} are wrong" if wrong else "as expected"
        return f"outcomes: {outcome}", not wrong

    return conduct(work, shown)


def _way(text: str) -> str:
    if text in _WAYS:
        return text
    raise argparse.ArgumentTypeError(f"expected one of {', '.join(_WAYS)}, got {text!r}")


def _shown(way: str, shown: Screen) -> list[Case]:
    title, show = _WAYS[way]
    shown.step(title)
    found = _run(show)
    shown.table(title, found)
    return found


def _run(show: Callable[[Trial], None]) -> list[Case]:
    with tempfile.TemporaryDirectory() as folder, Terminal(Path(folder) / "partner") as terminal:
        trial = Trial(terminal)
        show(trial)
    return trial.cases


if __name__ == "__main__":
    sys.exit(main())
