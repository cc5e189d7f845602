# SPDX-License-Identifier: Apache-2.0
"""All pods of a cluster at once: 500 on five hollow kubelets, everything on this machine.

Rules:
    1. The delay of a request is seen by a watch of our own: from its creation to its certificate.
    2. The signer is one replica with its own account's rights, in a process of its own; its CPU
       time is all that the process used from the first request to the last certificate.
    3. Memory is what the signer holds with 10,000 pods that it watches.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import Measure
from benchmarks.processes import memory_mb
from cluster import ControlPlane, HollowNode
from tests.cluster.pods import pod
from tests.cluster.signing_world import SigningWorld, volume
from tests.waiting import until
from webhook.api import Api
from webhook.api.resources import DEPLOYMENTS, NAMESPACES, POD_CERTIFICATE_REQUESTS, PODS

if TYPE_CHECKING:
    from collections.abc import Iterator

NODES = 5
PODS_AT_ONCE = 500
WATCHED = 10_000
_SECONDS = 240
_TICKS = os.sysconf("SC_CLK_TCK")


def measures() -> Iterator[Measure]:
    """Delay, throughput and CPU of a burst; memory of a large cluster."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        control_plane = stack.enter_context(ControlPlane(Path(folder) / "cluster"))
        nodes = [
            stack.enter_context(HollowNode(control_plane, f"node-{number}"))
            for number in range(NODES)
        ]
        world = SigningWorld(control_plane, {node.name: node for node in nodes})
        world.install()
        with world.replica() as signer:
            until(lambda: "answers requests" in signer.log.read_text(), timeout=30)
            spent = cpu_seconds(signer.pid)
            delays, span = asyncio.run(burst(control_plane.kubeconfig))
            spent = cpu_seconds(signer.pid) - spent
        yield from _burst_rows(delays, span, spent)
        asyncio.run(crowd(control_plane.kubeconfig))
        with world.replica(identity="signer-2") as signer:
            until(lambda: "answers requests" in signer.log.read_text(), timeout=60)
            yield Measure(
                f"signer memory, {WATCHED} pods",
                memory_mb(signer.pid),
                "MB",
                150,
                "lower",
                "goal of the control plane",
            )


def _burst_rows(delays: list[float], span: float, spent: float) -> Iterator[Measure]:
    peer = "a bare asyncio signer without checks"
    mean = statistics.fmean(delays)
    p99 = statistics.quantiles(delays, n=100)[98]
    yield Measure("burst: first request to last answer", span, "s", 12, "lower", f"{peer}: 7.7")
    yield Measure("burst: mean delay", mean, "s", 0.1, "lower", f"{peer}: 0.04")
    yield Measure("burst: p99 delay", p99, "s", 1, "lower", peer)
    yield Measure("burst: CPU of the signer", spent, "s", 2, "lower", f"{peer}: 0.7")


async def burst(kubeconfig: Path) -> tuple[list[float], float]:
    """Start all pods at once; return the delay of each request, and the span of all."""
    made: dict[str, float] = {}
    answered: dict[str, float] = {}
    async with await Api.connect(kubeconfig) as api:
        await api.create(NAMESPACES, {"metadata": {"name": "burst"}})
        version = (await api.list(POD_CERTIFICATE_REQUESTS)).resource_version
        await api.create(DEPLOYMENTS, _deployment(), namespace="burst")
        async with asyncio.timeout(_SECONDS):
            while len(answered) < PODS_AT_ONCE:  # A watch may end at any time.
                version = await _follow(api, version, made, answered)
    await asyncio.sleep(0.5)  # connections that were left in the middle of much still close
    delays = [answered[uid] - made[uid] for uid in answered]
    return delays, max(answered.values()) - min(made.values())


async def _follow(
    api: Api, version: str, made: dict[str, float], answered: dict[str, float]
) -> str:
    """Note when requests are made and answered, until all are or the watch ends."""
    events = api.watch(POD_CERTIFICATE_REQUESTS, resource_version=version)
    async with aclosing(events):
        async for event in events:
            version = event.resource_version
            if event.type not in {"ADDED", "MODIFIED"}:
                continue
            uid, now = event.object["metadata"]["uid"], time.monotonic()
            made.setdefault(uid, now)
            if (event.object.get("status") or {}).get("certificateChain"):
                answered.setdefault(uid, now)
            if len(answered) == PODS_AT_ONCE:
                break
    return version


async def crowd(kubeconfig: Path) -> None:
    """Fill the cluster with pods that nobody schedules."""
    async with await Api.connect(kubeconfig) as api:
        await api.create(NAMESPACES, {"metadata": {"name": "crowd"}})
        await asyncio.sleep(1)  # its default service account
        gate = asyncio.Semaphore(32)

        async def create(number: int) -> None:
            async with gate:
                body = pod(f"pod-{number:05}", volumes=[volume()], schedulerName="nobody")
                await api.create(PODS, body, namespace="crowd")

        await asyncio.gather(*(create(number) for number in range(WATCHED - PODS_AT_ONCE)))


def cpu_seconds(pid: int | None) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _deployment() -> dict:
    template = pod("web", volumes=[volume()])
    template["metadata"].pop("name")
    return {
        "metadata": {"name": "web"},
        "spec": {
            "replicas": PODS_AT_ONCE,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": template["metadata"], "spec": template["spec"]},
        },
    }
