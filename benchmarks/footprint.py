# SPDX-License-Identifier: Apache-2.0
"""What the server path adds to a process: import time, memory, and memory of idle connections."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.load import Load
from benchmarks.measure import Measure, Spread
from benchmarks.processes import Processes, free_port
from benchmarks.server import bare, ours
from benchmarks.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 7
IDLE = 1000

_PROBE = """
import json, sys, time
started = time.perf_counter()
{imports}
seconds = time.perf_counter() - started
memory = [line for line in open("/proc/self/status") if line.startswith("VmRSS")][0].split()[1]
print(json.dumps([seconds, int(memory) / 1024]))
"""
# What `uvicorn app:app` itself has loaded once it serves with mTLS.
_BARE = "import uvicorn, uvicorn.protocols.http.httptools_impl, uvloop, ssl, benchmarks.app"
_OURS = (
    f"{_BARE}, kubetls_sdk.server.uvicorn, kubetls_sdk.server.asgi, kubetls_sdk.volume_source,"
    " kubetls_sdk.policy_file"
)


def measures() -> Iterator[Measure]:
    """Import cost over bare uvicorn, and memory of an idle connection."""
    bare_runs, our_runs = [], []
    for _ in range(ROUNDS):
        bare_runs.append(_imported(_BARE))
        our_runs.append(_imported(_OURS))
    pairs = list(zip(our_runs, bare_runs, strict=True))
    seconds = Spread.of([(o[0] - b[0]) * 1000 for o, b in pairs])
    memory = Spread.of([o[1] - b[1] for o, b in pairs])
    peer = "bare uvicorn"
    yield Measure("footprint: import time added", seconds.median, "ms", 150, "lower", peer, seconds)
    yield Measure("footprint: memory added", memory.median, "MB", 15, "lower", peer, memory)
    yield _idle_connections()


def _imported(imports: str) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", _PROBE.format(imports=imports)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds, memory = json.loads(done.stdout)
    return seconds, memory


def _idle_connections() -> Measure:
    with Workspace.temporary() as workspace, Processes.started() as processes:
        load = Load(workspace.client)
        growth = []
        for command in (ours, bare):
            port = free_port()
            pid = processes.start(command(workspace, port), port=port)
            load.run(port, connections=16, seconds=0.5)  # warm, so that growth is connections
            before = _memory(pid)
            with load.idle(port, connections=IDLE):
                growth.append(_settled(pid) - before)
    return Measure(
        "footprint: an idle connection", growth[0] / growth[1], "x", 1.05, "lower",
        f"uvicorn's own, {growth[1] / IDLE * 1024:.1f} KB",
    )  # fmt: skip


def _settled(pid: int) -> float:
    """Memory once it no longer changes."""
    before = 0.0
    for _ in range(20):
        now = _memory(pid)
        if abs(now - before) < 0.1:
            break
        before = now
        time.sleep(0.1)
    return before


def _memory(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (row,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(row.split()[1]) / 1024
