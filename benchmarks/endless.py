# SPDX-License-Identifier: Apache-2.0
"""A client that calls without a pause until it is asked to end, then tells how that went.

    KUBETLS_DIR=... python -m benchmarks.endless PORT CONNECTIONS

It prints `READY` after the first answer, and at SIGTERM a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter

import httpx2

from kubetls_sdk.client.httpx2 import AsyncClient
from kubetls_sdk.volume_source import VolumeSource

ORDERS = "spiffe://example.org/ns/shop/sa/orders"


async def main(port: str, connections: str) -> None:
    results: Counter[str] = Counter()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with VolumeSource() as source, AsyncClient(server=ORDERS, source=source) as client:

        async def call() -> None:
            try:
                response = await client.get(f"https://localhost:{port}/")
                results[str(response.status_code)] += 1
            except httpx2.HTTPError as err:
                results[f"{type(err).__name__}: {err}"] += 1

        async def keep_calling() -> None:
            while not stop.is_set():
                await call()

        await call()
        print("READY", flush=True)
        await asyncio.gather(*[keep_calling() for _ in range(int(connections))])
    print(json.dumps(results), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
