# SPDX-License-Identifier: Apache-2.0
"""The SDK's server against bare uvicorn with mTLS: what identity and authorization cost a request.

Kept-alive connections, one uvicorn worker on one core, the load generator on another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.load import Load
from benchmarks.measure import Measure, Spread
from benchmarks.processes import Processes, free_port, python
from benchmarks.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load import Result

SLICES = 30
SECONDS = 0.4
CONNECTIONS = 16
QUIET = ("--no-access-log", "--log-level", "warning", "--loop", "uvloop", "--http", "httptools")


def bare(workspace: Workspace, port: int) -> list[str]:
    """Stock uvicorn with client certificates required."""
    files = workspace.stock
    tls = ["--ssl-certfile", str(files.certificate), "--ssl-keyfile", str(files.key)]
    tls += ["--ssl-ca-certs", str(files.authorities), "--ssl-cert-reqs", "2"]
    return [*plaintext(port), *tls]


def plaintext(port: int) -> list[str]:
    """Stock uvicorn without TLS."""
    return python("-m", "uvicorn", "benchmarks.app:app", "--port", str(port), *QUIET)


def ours(workspace: Workspace, port: int) -> list[str]:
    """The SDK's server with a policy."""
    return python(
        "-m", "kubetls_sdk", "serve", "benchmarks.app:app", "--port", str(port), *QUIET,
        "--volume", str(workspace.volume), "--policy", str(workspace.policy),
    )  # fmt: skip


def measures() -> Iterator[Measure]:
    """Requests a second and CPU a request, as slice-by-slice ratios."""
    with Workspace.temporary() as workspace, Processes.started() as processes:
        load = Load(workspace.client)
        ports = [free_port(), free_port()]
        commands = (ours(workspace, ports[0]), bare(workspace, ports[1]))
        pids = [processes.start(c, port=p) for c, p in zip(commands, ports, strict=True)]
        slices: tuple[list[Result], ...] = ([], [])
        for _ in range(SLICES):
            for which in (0, 1):
                result = load.run(
                    ports[which], connections=CONNECTIONS, seconds=SECONDS, pids=[pids[which]]
                )
                slices[which].append(result.checked())
    yield from _compare(*slices)


def _compare(ours: list[Result], theirs: list[Result]) -> Iterator[Measure]:
    peer = "bare uvicorn with mTLS, 16 connections"
    rate = Spread.of_ratios([r.rate for r in ours], [r.rate for r in theirs])
    yield Measure.ratio("server: requests/s", rate, goal=0.97, better="higher", peer=peer)
    cpu = Spread.of_ratios([r.server_cpu for r in ours], [r.server_cpu for r in theirs])
    yield Measure.ratio("server: CPU a request", cpu, goal=1.04, better="lower", peer=peer)
    share = Spread.of([r.own_cpu for r in ours + theirs])
    yield Measure(
        "server: load generator's share of its core", share.median, "core", 0.9, "lower",
        "being the bottleneck", share,
    )  # fmt: skip
