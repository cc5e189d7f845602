# SPDX-License-Identifier: Apache-2.0
"""A server, in a process of its own, that lists as many pods as wanted, of a real pod's size."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager

from aiohttp import web

from webhook.api import Api
from webhook.api.api_server import ApiServer
from webhook.api.credentials import Credentials


@asynccontextmanager
async def serve_pods(count):
    """An `Api` whose server has this many pods."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, str(count), stdout=asyncio.subprocess.PIPE
    )
    try:
        port = int(await process.stdout.readline())
        async with Api(Credentials(ApiServer(host=f"http://127.0.0.1:{port}"))) as api:
            yield api
    finally:
        process.kill()
        await process.wait()


def pod(number):
    """A pod as the API server sends it: 6 kB, most of it of no interest here."""
    fields = {f"f:field-{each}": {"f:nested": {}, ".": {}} for each in range(40)}
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}
    condition = {"status": "True", "lastTransitionTime": "2026-11-25T10:00:00Z"}
    conditions = ("Initialized", "Ready", "ContainersReady", "PodScheduled", "PodReadyToStart")
    environment = [{"name": f"VARIABLE_{each}", "value": "x" * 20} for each in range(20)]
    app = f"app-{number // 20}"
    return {
        "metadata": {
            "name": f"{app}-7d9f8b6c5-{number:05}",
            "namespace": f"team-{number % 50}",
            "uid": f"8e4c6278-0000-4000-8000-{number:012}",
            "resourceVersion": str(number + 1),
            "labels": {
                "app.kubernetes.io/name": app,
                "app.kubernetes.io/part-of": f"product-{number % 100}",
                "pod-template-hash": f"7d9f8b6c5{number // 20}",
            },
            "annotations": {
                "kubetls.gauntletwizard.net/secret": f"kubetls-{number:020}",
                "other.example/checksum": "x" * 64,
            },
            "ownerReferences": [
                {"kind": "ReplicaSet", "uid": f"owner-{number // 20}", "controller": True}
            ],
            "managedFields": [{"manager": "kubelet", "fieldsV1": fields}],
        },
        "spec": {
            "nodeName": f"node-{number % 200}",
            "serviceAccountName": f"account-{number % 300}",
            "containers": [
                {"name": "main", "image": "registry.example/app:1", "env": environment},
                {"name": "sidecar", "image": "registry.example/proxy:1", "env": environment},
            ],
            "volumes": [
                {"name": "kube-api-access", "projected": {"sources": [token]}},
                {"name": "kubetls", "secret": {"secretName": f"kubetls-{number:020}"}},
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.1.2.3",
            "conditions": [{"type": each, **condition} for each in conditions],
        },
    }


async def _serve(request):
    count = int(sys.argv[1])
    if request.query.get("watch"):
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.Event().wait()
        return response
    start, size = int(request.query.get("continue", "0")), int(request.query["limit"])
    end = min(start + size, count)
    metadata = {"resourceVersion": str(count)} | ({"continue": str(end)} if end < count else {})
    items = [pod(number) for number in range(start, end)]
    return web.Response(body=json.dumps({"metadata": metadata, "items": items}).encode())


async def _main():
    application = web.Application()
    application.router.add_get("/{path:.*}", _serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"{site._server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
