# SPDX-License-Identifier: Apache-2.0
"""The node driver: one volume, the next call for it, and all pods of a node at once.

Rules:
    1. Everything is on this machine's two cores: API server, etcd, kubelet, signer, driver, and who
       measures. The API server writes no audit log.
    2. A publication is measured from the call to its answer, as the kubelet sees it; the files are
       there then. Its certificate is signed by the real signer.
    3. Pods are as the injector leaves them, and not sent to it: that is measured by `admission`.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Measure, Spread
from benchmarks.processes import cpu_seconds, memory_mb
from tests.cluster.csi_world import NODES, CsiWorld, csi_world
from tests.waiting import until
from webhook.api import Api
from webhook.api.resources import PODS
from webhook.node.protocol import csi_pb2 as csi

if TYPE_CHECKING:
    from collections.abc import Iterator

NODE = NODES[0]
PUBLICATIONS = 60
REPETITIONS = 1000
PODS_AT_ONCE = 200
_SECONDS = 180
_DRIVER = {"driver": "csi.kubetls.gauntletwizard.net", "readOnly": True}


def measures() -> Iterator[Measure]:
    """Delay of a publication and of its repetition; pods at once; memory."""
    with (
        tempfile.TemporaryDirectory() as folder,
        csi_world(Path(folder) / "w", nodes=(NODE,), is_audited=False) as world,
    ):
        namespace = world.namespace("bench")
        created = world.create(namespace, "single")
        world.files(created)
        yield from _one_by_one(world, created)
        yield from _at_once(world, namespace)


def _one_by_one(world: CsiWorld, created: dict[str, Any]) -> Iterator[Measure]:
    token, driver = world.token_of(created), world.driver(NODE)
    seconds = []
    for number in range(PUBLICATIONS):
        request = _request(world, created, token, f"bench-{number}")
        started = time.perf_counter()
        driver.NodePublishVolume(request, timeout=60)
        seconds.append(time.perf_counter() - started)
    yield _in_ms("publish: call to files", seconds, 150)
    seconds = []
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        driver.NodePublishVolume(request, timeout=60)
        seconds.append(time.perf_counter() - started)
    yield _in_ms("publish again", seconds, 2)
    for number in range(PUBLICATIONS):
        target = _target(world, created, f"bench-{number}")
        ending = csi.NodeUnpublishVolumeRequest(volume_id=f"bench-{number}", target_path=target)
        driver.NodeUnpublishVolume(ending, timeout=60)


def _at_once(world: CsiWorld, namespace: str) -> Iterator[Measure]:
    process = world.process("node", NODE)
    before, published = cpu_seconds(process.pid or 0), _published(world)
    started = time.perf_counter()
    asyncio.run(_create(world.control_plane.kubeconfig, namespace))
    until(lambda: _published(world) >= published + PODS_AT_ONCE, timeout=_SECONDS, interval=0.1)
    taken = time.perf_counter() - started
    spent = cpu_seconds(process.pid or 0) - before
    peer = "pods with certificates by the kubelet itself are limited by the same API server"
    what = f"{PODS_AT_ONCE} pods of one node: first to last volume"
    yield Measure(what, taken, "s", 20, "lower", peer)
    yield Measure(f"{PODS_AT_ONCE} pods: CPU of the driver", spent, "s", None, "lower", "")
    resident = memory_mb(process.pid or 0)
    yield Measure(f"driver's memory, {PODS_AT_ONCE} pods", resident, "MB", 60, "lower", "")


def _in_ms(measure: str, seconds: list[float], goal: float) -> Measure:
    spread = Spread.of([each * 1000 for each in seconds])
    peer = "p50 on the cores of API server and signer"
    return Measure(measure, spread.median, "ms", goal, "lower", peer, spread)


def _request(
    world: CsiWorld, created: dict[str, Any], token: str, volume: str
) -> csi.NodePublishVolumeRequest:
    target = _target(world, created, volume)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    return world.request(created, token=token, volume_id=volume, target_path=target)


def _target(world: CsiWorld, created: dict[str, Any], volume: str) -> str:
    return str(world.nodes[NODE].target_of(created["metadata"]["uid"], volume))


def _published(world: CsiWorld) -> int:
    lines = world.get("node", "/metrics", NODE).splitlines()
    return round(sum(float(e.split()[-1]) for e in lines if e.startswith("kubetls_node_volumes ")))


async def _create(kubeconfig: Path, namespace: str) -> None:
    async with await Api.connect(kubeconfig) as api:
        gate = asyncio.Semaphore(16)

        async def create(number: int) -> None:
            async with gate:
                await api.create(PODS, _pod(f"pod-{number:03}"), namespace=namespace)

        await asyncio.gather(*(create(number) for number in range(PODS_AT_ONCE)))


def _pod(name: str) -> dict[str, Any]:
    labels = {"app": name, "kubetls.gauntletwizard.net/inject": "false"}
    mount = {"name": "kubetls", "mountPath": "/run/secrets/identity", "readOnly": True}
    container = {"name": "main", "image": "none.example/main", "volumeMounts": [mount]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "nodeName": NODE,
            "automountServiceAccountToken": False,
            "containers": [container],
            "volumes": [{"name": "kubetls", "csi": _DRIVER}],
        },
    }
