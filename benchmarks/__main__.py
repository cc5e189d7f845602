# SPDX-License-Identifier: Apache-2.0
"""Run the benchmarks: `python -m benchmarks [NAME ...]`; without names, all of them.

Prints a table and writes `build/bench.json`. A run of some names keeps the rows of the others.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.exceptions import ClusterError

if TYPE_CHECKING:
    from benchmarks.measure import Measure

BENCHMARKS = (
    "request",
    "server",
    "handshake",
    "sidecar",
    "client",
    "grpc",
    "rotation",
    "footprint",
    "authz",
    "issuance",
    "admission",
    "burst",
    "csi",
    "users",
)
REPORT = Path("build/bench.json")


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"expected one of {', '.join(BENCHMARKS)}, got {', '.join(unknown)}", file=sys.stderr)
        return 2
    for name in names or BENCHMARKS:
        print(f"\n{name}: measuring ...", flush=True)
        try:
            rows = _rows(name)
        except ClusterError as err:
            print(f"{name}: {err}", file=sys.stderr)
            return 1
        save(name, rows)
    print(f"\nwritten to {REPORT}")
    return 0


def _rows(name: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for measure in importlib.import_module(f"benchmarks.{name}").measures():
        print(line(measure), flush=True)
        rows.append({"benchmark": name, **measure.as_json()})
    return rows


def line(measure: Measure) -> str:
    spread = f"[{measure.spread.low:.3g} .. {measure.spread.high:.3g}]" if measure.spread else ""
    sign = "" if measure.goal is None else (">=" if measure.better == "higher" else "<=")
    goal = "reported" if measure.goal is None else f"goal {sign} {measure.goal:g}"
    verdict = {True: "met", False: "NOT MET", None: ""}[measure.met]
    return (
        f"  {measure.measure:46} {measure.value:10.4g} {measure.unit:5} {spread:22} {goal:16}"
        f" {verdict:8} against {measure.peer}"
    )


def save(name: str, rows: list[dict[str, object]]) -> None:
    REPORT.parent.mkdir(exist_ok=True)
    kept = json.loads(REPORT.read_text()) if REPORT.exists() else []
    others = [row for row in kept if row.get("benchmark") != name]
    REPORT.write_text(json.dumps(others + rows, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
