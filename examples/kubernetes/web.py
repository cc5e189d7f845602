# SPDX-License-Identifier: Apache-2.0
"""The service `web`: it calls `orders` without a pause, as the container's command says.

    python -m web https://orders.shop.svc:8443 2

The volume that the kubelet wrote is found by itself. A GET whose connection ends before an answer
began, as happens when a pod of orders is replaced, is sent once more; it counts as `repeated`.
Each quarter of a second a line of JSON says what was seen; the last one has `"ended": true`.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from itertools import count

import httpx

from kubetls_sdk.client.httpx import AsyncClient

__all__ = ("Load",)

_ORDERS = "spiffe://example.org/ns/shop/sa/orders"
_WEB = "spiffe://example.org/ns/shop/sa/web"
_REPORT_SECONDS = 0.25
_ENDED = (httpx.ConnectError, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


class Load:
    """Requests without end, and what came of them.

    Args:
        url: Of orders.
        in_flight: How many requests at once.
    """

    def __init__(self, url: str, in_flight: int) -> None:
        self._url = url
        self._in_flight = in_flight
        self._numbers = count(1)
        self._stop = asyncio.Event()
        self._counts = Counter(requests=0, repeated=0, failed=0)
        self._failures: Counter[str] = Counter()

    def end(self) -> None:
        """Let each request in flight have its answer, and send no more."""
        self._stop.set()

    async def run(self) -> None:
        """Send until `end` is called."""
        reporting = asyncio.create_task(self._report())
        async with AsyncClient(server=_ORDERS, timeout=10) as client:
            await asyncio.gather(*(self._keep_sending(client) for _ in range(self._in_flight)))
        await reporting
        self._print(ended=True)

    async def _keep_sending(self, client: AsyncClient) -> None:
        while not self._stop.is_set():
            self._counts["requests"] += 1
            wrong = await self._wrong(client, next(self._numbers))
            if wrong:
                self._counts["failed"] += 1
                self._failures[wrong] += 1
            await asyncio.sleep(0.005)

    async def _wrong(self, client: AsyncClient, number: int) -> str:
        """What is wrong with a request's outcome; nothing is the rule."""
        try:
            response = await self._get(client, number)
        except httpx.HTTPError as err:
            return f"{type(err).__name__}: {err}"
        body = response.json() if response.status_code == httpx.codes.OK else {}
        if (body.get("order"), body.get("caller")) != (str(number), _WEB):
            return f"status {response.status_code}"
        return ""

    async def _get(self, client: AsyncClient, number: int) -> httpx.Response:
        url = f"{self._url}/orders/{number}"
        try:
            return await client.get(url)
        except _ENDED:
            self._counts["repeated"] += 1
            return await client.get(url)

    async def _report(self) -> None:
        while not self._stop.is_set():
            self._print()
            await asyncio.sleep(_REPORT_SECONDS)

    def _print(self, *, ended: bool = False) -> None:
        line = {**self._counts, "failures": dict(self._failures), "ended": ended}
        print(json.dumps(line), flush=True)


async def _main(url: str, in_flight: int) -> None:
    load = Load(url, in_flight)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, load.end)
    await load.run()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
