# SPDX-License-Identifier: Apache-2.0
"""New connections: a full mutual handshake, one request and the close, as CPU of the server.

Against stock uvicorn as it comes (two session tickets) and with tickets off.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from benchmarks.load import Load
from benchmarks.measure import Measure, Spread
from benchmarks.processes import Processes, free_port, python
from benchmarks.server import bare, ours
from benchmarks.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load import Result

SLICES = 12
SECONDS = 0.8
CONNECTIONS = 16


def measures() -> Iterator[Measure]:
    """CPU a connection, as slice-by-slice ratios."""
    with Workspace.temporary() as workspace, Processes.started() as processes:
        load = Load(workspace.client)
        ports = [free_port() for _ in range(3)]
        commands = (
            ours(workspace, ports[0]),
            bare(workspace, ports[1]),
            without_tickets(workspace, ports[2]),
        )
        pids = [processes.start(c, port=p) for c, p in zip(commands, ports, strict=True)]
        slices: tuple[list[Result], ...] = ([], [], [])
        for _ in range(SLICES):
            for which in range(3):
                result = load.run(
                    ports[which], connections=CONNECTIONS, seconds=SECONDS,
                    new_connections=True, pids=[pids[which]],
                )  # fmt: skip
                slices[which].append(result.checked())
    cpu = [[r.server_cpu for r in results] for results in slices]
    goal = 0.75 if ssl.OPENSSL_VERSION_INFO < (3, 5) else 0.85
    yield Measure.ratio(
        "handshake: CPU a new connection", Spread.of_ratios(cpu[0], cpu[1]),
        goal=goal, better="lower", peer=f"uvicorn as it comes, {ssl.OPENSSL_VERSION}",
    )  # fmt: skip
    yield Measure.ratio(
        "handshake: CPU a new connection, tickets off", Spread.of_ratios(cpu[0], cpu[2]),
        goal=1.10, better="lower", peer="uvicorn with num_tickets = 0",
    )  # fmt: skip


def without_tickets(workspace: Workspace, port: int) -> list[str]:
    """Stock uvicorn whose context sends no session tickets."""
    files = workspace.stock
    paths = [str(files.certificate), str(files.key), str(files.authorities)]
    return python("-m", "benchmarks.ticketless", str(port), *paths)
