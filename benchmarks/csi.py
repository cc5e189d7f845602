# SPDX-License-Identifier: Apache-2.0
"""The node driver: one volume, the next call for it, and all pods of a node at once.

Rules:
    1. Everything is on this machine's two cores: API server, etcd, kubelet, signer, driver, and who
       measures. The API server writes no audit log.
    2. Memory is the driver's own, and that of the volumes that it made; what its libraries are on
       the disk is reported beside it.
    3. A publication is measured from the call to its answer, as the kubelet sees it; the files are
       there then. Its certificate is signed by the real signer.
    4. Pods are as the injector leaves them, and not sent to it: that is measured by `admission`.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Measure, Spread
from benchmarks.processes import cpu_seconds, memory_mb, private_mb
from tests.cluster.csi_world import NODES, CsiWorld, csi_world
from tests.waiting import until
from webhook.api import Api
from webhook.api.resources import PODS
from webhook.node.protocol import csi_pb2 as csi
from webhook.node.protocol import csi_pb2_grpc

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
    request = _request(world, created, token)
    ending = csi.NodeUnpublishVolumeRequest(
        volume_id=request.volume_id, target_path=request.target_path
    )
    seconds = []
    for _ in range(PUBLICATIONS):
        driver.NodeUnpublishVolume(ending, timeout=60)
        seconds.append(_timed(driver, request))
    yield _in_ms("publish: call to files", seconds, 150)
    yield _in_ms("publish again", [_timed(driver, request) for _ in range(REPETITIONS)], 2)
    driver.NodeUnpublishVolume(ending, timeout=60)


def _timed(driver: csi_pb2_grpc.NodeStub, request: csi.NodePublishVolumeRequest) -> float:
    started = time.perf_counter()
    driver.NodePublishVolume(request, timeout=60)
    return time.perf_counter() - started


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
    what = f"{PODS_AT_ONCE} pods: CPU of the driver"
    yield Measure(what, spent, "s", None, "lower", "keys, requests, files and mounts")
    yield from _memory(world, process.pid or 0)


def _memory(world: CsiWorld, pid: int) -> Iterator[Measure]:
    """What the driver takes from the node, and with the pages of libraries that it maps."""
    volumes = sum(_used_mb(home) for home in world.homes(NODE))
    what = f"memory, {PODS_AT_ONCE} pods"
    yield Measure(
        f"{what}: driver and volumes",
        private_mb(pid) + volumes,
        "MB",
        60,
        "lower",
        "its own pages, and its tmpfs",
    )
    yield Measure(f"{what}: volumes", volumes, "MB", None, "lower", "the tmpfs of all pods")
    yield Measure(
        f"{what}: driver, with its libraries",
        memory_mb(pid),
        "MB",
        None,
        "lower",
        "VmRSS; files' pages are the page cache's, and shared with other parts",
    )


def _used_mb(folder: Path) -> float:
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_bsize / 2**20


def _in_ms(measure: str, seconds: list[float], goal: float) -> Measure:
    spread = Spread.of([each * 1000 for each in seconds])
    peer = "p50 on the cores of API server and signer"
    return Measure(measure, spread.median, "ms", goal, "lower", peer, spread)


def _request(world: CsiWorld, created: dict[str, Any], token: str) -> csi.NodePublishVolumeRequest:
    """For a second volume of a pod, which the kubelet knows nothing of."""
    target = world.nodes[NODE].target_of(created["metadata"]["uid"], "second")
    target.parent.mkdir(parents=True)
    return world.request(created, token=token, volume_id="second", target_path=str(target))


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
