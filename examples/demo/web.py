# SPDX-License-Identifier: Apache-2.0
"""The load of the demo: `web` calls `orders` without a pause, as an application would.

    KUBETLS_DIR=... python -m examples.demo.web https://127.0.0.1:8443 16

One client keeps its connections; others are made new for a single request. Both follow the
rotation by themselves. Each tenth of a second it prints what it has seen as a line of JSON, and a
last one with `"ended": true` when it is asked to end.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import Counter, defaultdict
from itertools import count
from typing import TYPE_CHECKING, Any

import httpx

from examples.demo.domains import ORDERS, WEB
from kubetls_sdk.client.httpx import AsyncClient
from kubetls_sdk.volume_source import VolumeSource

if TYPE_CHECKING:
    from kubetls_sdk.source import Source

__all__ = ("Load",)

_REPORT_SECONDS = 0.1
_FRESH_LOOPS = 2
_MAX_REASONS = 20


class Load:
    """Requests without end, and what came of them.

    Args:
        url: Of orders.
        source: The identity of web.
        connections: How many requests are in flight on kept-alive connections.
    """

    def __init__(self, url: str, source: Source, connections: int) -> None:
        self._url = url
        self._source = source
        self._connections = connections
        self._numbers = count(1)
        self._stop = asyncio.Event()
        self._requests = self._fresh = 0
        self._failures: Counter[str] = Counter()
        self._uses: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self._serials: dict[str, float] = {}

    def end(self) -> None:
        """Let each request in flight have its answer, and send no more."""
        self._stop.set()

    async def run(self) -> None:
        """Send until `end` is called, then print the last line."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=self._connections)
        reporting = asyncio.create_task(self._report())
        async with AsyncClient(
            server=ORDERS, source=self._source, limits=limits, timeout=10
        ) as client:
            kept = (self._keep_sending(client) for _ in range(self._connections))
            fresh = (self._keep_connecting() for _ in range(_FRESH_LOOPS))
            await asyncio.gather(*kept, *fresh)
        await reporting
        self._print(ended=True)

    async def _keep_sending(self, client: AsyncClient) -> None:
        while not self._stop.is_set():
            await self._send(client)

    async def _keep_connecting(self) -> None:
        while not self._stop.is_set():
            async with AsyncClient(server=ORDERS, source=self._source, timeout=10) as client:
                await self._send(client, is_fresh=True)

    async def _send(self, client: AsyncClient, *, is_fresh: bool = False) -> None:
        number = next(self._numbers)
        self._requests += 1
        self._fresh += is_fresh
        try:
            wrong = self._wrong(await self._call(client, number), number, is_fresh=is_fresh)
        except httpx.HTTPError as err:
            wrong = f"{type(err).__name__}: {err}"
        if wrong and len(self._failures) < _MAX_REASONS:
            self._failures[wrong] += 1
        elif wrong:
            self._failures["others"] += 1

    async def _call(self, client: AsyncClient, number: int) -> httpx.Response:
        if number % 10:
            return await client.get(f"{self._url}/orders/{number}")
        return await client.post(f"{self._url}/orders", json={"order": str(number)})

    def _wrong(self, response: httpx.Response, number: int, *, is_fresh: bool) -> str:
        """What is wrong with an answer; nothing is the rule."""
        if response.status_code != 200:
            return f"status {response.status_code}"
        body: dict[str, Any] = response.json()
        if (body["order"], body["caller"]) != (str(number), WEB):
            return f"answer to somebody else: {body}"
        if is_fresh:
            self._serials.setdefault(body["serial"], time.time())
        else:
            self._uses[body["serial"]][body["port"]] += 1
        return ""

    async def _report(self) -> None:
        while not self._stop.is_set():
            self._print()
            await asyncio.sleep(_REPORT_SECONDS)

    def _kept_alive(self) -> int:
        """Connections that served several requests under one certificate of ours, at most."""
        counts = (sum(uses > 1 for uses in ports.values()) for ports in self._uses.values())
        return max(counts, default=0)

    def _print(self, *, ended: bool = False) -> None:
        line = {
            "requests": self._requests,
            "fresh": self._fresh,
            "kept_alive": self._kept_alive(),
            "failed": self._failures.total(),
            "failures": dict(self._failures),
            "serials": self._serials,
            "ended": ended,
        }
        print(json.dumps(line), flush=True)
        self._serials = dict(list(self._serials.items())[-1:])


async def _main(url: str, connections: int) -> None:
    async with VolumeSource() as source:
        load = Load(url, source, connections)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, load.end)
        await load.run()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
