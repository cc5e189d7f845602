# SPDX-License-Identifier: Apache-2.0
"""Reviews at a fixed rate, as an API server sends them: each at its time, whatever came before.

Rules:
    1. A latency counts from the moment at which a review was due, so that a server that stalls is
       not asked less.
    2. Connections are kept, as Go's client keeps them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

__all__ = ("Rate", "Reviewed", "pod", "review")


def pod() -> dict[str, object]:
    """A pod of the usual size: three containers, probes, a token, affinity."""
    token = {
        "name": "kube-api-access-x7k2p",
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        "readOnly": True,
    }
    probe = {"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 10}
    container = {
        "image": "registry.example/shop/web@sha256:" + "0" * 64,
        "args": ["--listen", "0.0.0.0:8080", "--log-format", "json"],
        "env": [{"name": f"SETTING_{i}", "value": "x" * 20} for i in range(15)],
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "volumeMounts": [{"name": "cache", "mountPath": "/var/cache/app"}, token],
        "readinessProbe": probe,
        "livenessProbe": probe,
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True},
    }
    names = ("web", "worker")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "web-6d4cf56db6-",
            "labels": {"app": "web", "pod-template-hash": "6d4cf56db6"},
            "annotations": {"prometheus.io/scrape": "true"},
        },
        "spec": {
            "initContainers": [{**container, "name": "migrate"}],
            "containers": [{**container, "name": name} for name in names],
            "volumes": [
                {"name": "cache", "emptyDir": {}},
                {"name": token["name"], "projected": {}},
            ],
            "serviceAccountName": "web",
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}] * 2,
        },
    }


def review() -> bytes:
    """The AdmissionReview of its creation."""
    kind = {"group": "", "version": "v1"}
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {**kind, "kind": "Pod"},
        "resource": {**kind, "resource": "pods"},
        "namespace": "shop",
        "operation": "CREATE",
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
        "object": pod(),
        "dryRun": False,
    }
    document = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    return json.dumps(document).encode()


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What came of a run: seconds from due to answered, in ascending order."""

    latencies: list[float]

    def quantile(self, part: float) -> float:
        """A quantile, in milliseconds."""
        return self.latencies[min(len(self.latencies) - 1, int(part * len(self.latencies)))] * 1000


@dataclass(frozen=True, slots=True)
class Rate:
    """Reviews a second over kept connections.

    Attributes:
        port: Of the injector.
        context: Trusts its certificate.
        a_second: How many.
        connections: Over which they go, whichever is free.
    """

    port: int
    context: ssl.SSLContext
    a_second: int
    connections: int = 16

    def run(self, seconds: float) -> Reviewed:
        """Send for so long, and wait for all answers."""
        gc.collect()
        gc.disable()
        try:
            return asyncio.run(self._run(seconds))
        finally:
            gc.enable()

    async def _run(self, seconds: float) -> Reviewed:
        free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        made = [
            await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context)
            for _ in range(self.connections)
        ]
        for connection in made:
            free.put_nowait(connection)
        body = review()
        head = (
            "POST /mutate HTTP/1.1\r\nhost: injector\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        message, start = head.encode() + body, time.perf_counter() + 0.1
        tasks = []
        for number in range(int(seconds * self.a_second)):
            due = start + number / self.a_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(_ask(free, message, due)))
        latencies = await asyncio.gather(*tasks)
        for _, writer in made:
            writer.close()
        return Reviewed(sorted(latencies))


async def _ask(
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
    message: bytes,
    due: float,
) -> float:
    reader, writer = await free.get()
    writer.write(message)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    took = time.perf_counter() - due
    free.put_nowait((reader, writer))
    if not head.startswith(b"HTTP/1.1 200") or b"JSONPatch" not in body:
        raise RuntimeError(f"expected a patch, got {head!r}")
    return took
