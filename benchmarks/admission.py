# SPDX-License-Identifier: Apache-2.0
"""The injector: reviews at a rate of many deployments, and what it adds to the creation of a pod.

The second part needs the development cluster's programs (`make cluster` builds them).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trustme

from benchmarks.measure import Measure, Spread
from benchmarks.processes import LOAD_CPU, Processes, cpu_seconds, free_port, on_core, python
from benchmarks.reviews import Rate, pod
from cluster import ControlPlane
from webhook.api.client import Api
from webhook.api.resources import (
    MUTATING_WEBHOOK_CONFIGURATIONS,
    NAMESPACES,
    PODS,
    SERVICE_ACCOUNTS,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

SLICES = 8
SLICE_SECONDS = 2.5
RATES = (200, 400)
ROUNDS = 8
PODS_A_ROUND = 15
CONFIG = """\
version: 1
zones: [{name: default, trustDomain: example.org}]
namespaces: [{names: [shop]}]
"""


def measures() -> Iterator[Measure]:
    """Latency of reviews, and of the creation of pods with and without us."""
    with tempfile.TemporaryDirectory() as folder, Processes.started() as processes:
        authority, port = trustme.CA(), free_port()
        pid = processes.start(injector(Path(folder), authority, port), port=port)
        yield from reviews(port, authority, pid)
        yield from creations(port, authority)


def injector(folder: Path, authority: trustme.CA, port: int) -> list[str]:
    """The command of one replica."""
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "tls.key")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(folder / "tls.crt", append=True)
    (folder / "platform.yaml").write_text(CONFIG)
    return python(
        "-m", "webhook", "inject", "--config", str(folder / "platform.yaml"),
        "--serving", str(folder), "--host", "127.0.0.1",
        "--port", str(port), "--status-port", "0",
    )  # fmt: skip


def reviews(port: int, authority: trustme.CA, pid: int) -> Iterator[Measure]:
    """Reviews at fixed rates."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with on_core(LOAD_CPU):
        Rate(port, context, 100).run(1.0)
        for rate in RATES:
            before = cpu_seconds(pid)
            slices = [Rate(port, context, rate).run(SLICE_SECONDS) for _ in range(SLICES)]
            count = sum(len(found.latencies) for found in slices)
            slowest = Spread.of([found.quantile(0.99) for found in slices])
            peer = f"{count} reviews of 6 kB, one replica on one core"
            yield Measure(
                f"admission: p99 of {rate} reviews a second", slowest.median, "ms",
                goal=20.0 if rate == RATES[0] else None, better="lower", peer=peer, spread=slowest,
            )  # fmt: skip
            yield Measure(
                f"admission: CPU a review at {rate} a second",
                (cpu_seconds(pid) - before) / count * 1000, "ms",
                goal=None, better="lower", peer=peer,
            )  # fmt: skip


def creations(port: int, authority: trustme.CA) -> Iterator[Measure]:
    """Creations of pods, in alternating rounds with and without the webhook."""
    with ControlPlane() as plane:
        added, total = asyncio.run(_creations(plane.kubeconfig, port, authority))
    peer = f"creation without the webhook, whose median is {total:.1f} ms"
    yield Measure(
        "admission: added to the creation of a pod", added.median, "ms",
        goal=10.0, better="lower", peer=peer, spread=added,
    )  # fmt: skip


async def _creations(kubeconfig: Path, port: int, authority: trustme.CA) -> tuple[Spread, float]:
    async with await Api.connect(kubeconfig) as api:
        for name in ("shop", "plain"):
            await api.create(NAMESPACES, {"metadata": {"name": name}})
            await _until(partial(_has_account, api, name))
        rounds: dict[str, list[float]] = {"shop": [], "plain": []}
        async with _registered(api, port, authority):
            for namespace in ("plain", "shop") * (ROUNDS + 1):
                rounds[namespace].append(await _round(api, namespace))
    ours, plain = rounds["shop"][1:], rounds["plain"][1:]
    added = Spread.of([a - b for a, b in zip(ours, plain, strict=True)])
    return added, statistics.median(plain)


@contextlib.asynccontextmanager
async def _registered(api: Api, port: int, authority: trustme.CA) -> AsyncIterator[None]:
    """Let the API server ask the injector about the pods of one namespace."""
    names = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["shop"]}
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
    webhook = {
        "name": "inject.kubetls.example",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "reinvocationPolicy": "IfNeeded",
        "clientConfig": {
            "url": f"https://127.0.0.1:{port}/mutate",
            "caBundle": base64.b64encode(authority.cert_pem.bytes()).decode(),
        },
        "rules": [{**pods, "operations": ["CREATE"], "scope": "Namespaced"}],
        "namespaceSelector": {"matchExpressions": [names]},
    }
    body = {"metadata": {"name": "kubetls-injector"}, "webhooks": [webhook]}
    await api.create(MUTATING_WEBHOOK_CONFIGURATIONS, body)
    await _until(partial(_injects, api))
    yield


async def _has_account(api: Api, namespace: str) -> bool:
    return bool((await api.list(SERVICE_ACCOUNTS, namespace=namespace)).items)


async def _injects(api: Api) -> bool:
    return _is_injected(await api.create(PODS, _pod(), namespace="shop", dry_run=True))


async def _until(check: Callable[[], Awaitable[bool]]) -> None:
    while not await check():  # noqa: ASYNC110 - the API server tells nobody when it is so
        await asyncio.sleep(0.05)


async def _round(api: Api, namespace: str) -> float:
    """The median time of some creations, in milliseconds."""
    took = []
    for _ in range(PODS_A_ROUND):
        start = time.perf_counter()
        created = await api.create(PODS, _pod(), namespace=namespace)
        took.append((time.perf_counter() - start) * 1000)
        if _is_injected(created) is not (namespace == "shop"):
            raise RuntimeError(f"expected injection in shop only, got {namespace}")
    return statistics.median(took)


def _pod() -> dict[str, Any]:
    made: dict[str, Any] = pod()
    del made["spec"]["serviceAccountName"]
    for container in made["spec"]["containers"] + made["spec"]["initContainers"]:
        container["volumeMounts"] = container["volumeMounts"][:1]
    for probe in ("readinessProbe", "livenessProbe"):
        del made["spec"]["initContainers"][0][probe]
    made["spec"]["volumes"] = made["spec"]["volumes"][:1]
    return made


def _is_injected(found: dict[str, Any]) -> bool:
    return any(volume["name"] == "kubetls" for volume in found["spec"]["volumes"])
