# SPDX-License-Identifier: Apache-2.0
"""What the server path adds to a process: import time, memory, and memory of idle connections.

Rules:
    1. The import is timed as CPU time with files in the page cache: what else the machine does is
       not ours.
    2. A connection is idle after one request. Its memory is what the process grows by, all
       libraries included, when many of them come; each round takes new processes, since a heap that
       has been used before hides growth.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.load import Load
from benchmarks.measure import Measure, Spread
from benchmarks.processes import Processes, free_port, memory_mb
from benchmarks.server import bare, ours
from benchmarks.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Command = Callable[[Workspace, int], list[str]]

ROUNDS = 9
IDLE_ROUNDS = 3
IDLE = 1000

_PROBE = """
import json, sys, time
started = time.process_time()
{imports}
seconds = time.process_time() - started
memory = [line for line in open("/proc/self/status") if line.startswith("VmRSS")][0].split()[1]
print(json.dumps([seconds, int(memory) / 1024]))
"""
KEEP = ("--timeout-keep-alive", "60")  # none may be closed before all are there
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
    with Workspace.temporary() as workspace:
        rounds = [(_growth(ours, workspace), _growth(bare, workspace)) for _ in range(IDLE_ROUNDS)]
    our_kb, bare_kb = zip(*rounds, strict=True)
    ratio = Spread.of_ratios(our_kb, bare_kb)
    peer = f"uvicorn's own, {statistics.median(bare_kb):.1f} KB; one caller"
    return Measure.ratio(
        "footprint: an idle connection", ratio, goal=1.05, better="lower", peer=peer
    )


def _growth(command: Command, workspace: Workspace) -> float:
    """KB of a connection."""
    load, port = Load(workspace.client), free_port()
    with Processes.started() as processes:
        pid = processes.start([*command(workspace, port), *KEEP], port=port)
        load.run(port, connections=16, seconds=0.5)  # warm, so that growth is connections
        before = memory_mb(pid)
        with load.idle(port, connections=IDLE):
            return (_settled(pid) - before) / IDLE * 1024


def _settled(pid: int) -> float:
    """Memory once it no longer changes."""
    before, now = 0.0, memory_mb(pid)
    for _ in range(20):
        if abs(now - before) < 0.1:
            break
        time.sleep(0.1)
        before, now = now, memory_mb(pid)
    return now
