# SPDX-License-Identifier: Apache-2.0
"""Our httpx clients against the stock ones and aiohttp: mutual TLS, kept-alive connections.

The client runs in this process on one core, against a server with one fixed answer on another.
Plain event loops; slices alternate.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import httpx
import httpx2

import kubetls_sdk.client.httpx
import kubetls_sdk.client.httpx2
from benchmarks.measure import Measure, Spread
from benchmarks.processes import LOAD_CPU, Processes, cpu_seconds, free_port, on_core, python
from benchmarks.workspace import Workspace
from kubetls_sdk import StaticSource, TrustBundleSet

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

SLICES = 15
SECONDS = 0.4
IN_FLIGHT = 16
ORDERS = "spiffe://example.org/ns/shop/sa/orders"


class Pair(NamedTuple):
    """What is compared: two functions that run a slice and return requests a second."""

    measure: str
    ours: Callable[[], float]
    theirs: Callable[[], float]
    goal: float
    peer: str


def measures() -> Iterator[Measure]:
    """Requests a second, as slice-by-slice ratios."""
    with Workspace.temporary() as workspace, Processes.started() as processes, on_core(LOAD_CPU):
        port = free_port()
        files = workspace.stock
        pid = processes.start(
            python(
                "-m", "benchmarks.canned", str(port),
                str(files.authorities), str(files.certificate), str(files.key),
            ),
            port=port,
        )  # fmt: skip
        shares: list[float] = []
        for pair in _pairs(Calls(workspace, port)):
            yield _compare(pair, pid, shares)
    share = Spread.of(shares)
    yield Measure(
        "client: server's share of its core", share.median, "core", 0.9, "lower",
        "being the bottleneck", share,
    )  # fmt: skip


def _pairs(calls: Calls) -> Iterator[Pair]:
    many, aio = IN_FLIGHT, f"aiohttp, {IN_FLIGHT} in flight"
    for module, library, stock, goal, peer in (
        (kubetls_sdk.client.httpx2, httpx2, calls.aiohttp(many), 0.55, aio),
        (
            kubetls_sdk.client.httpx,
            httpx,
            calls.stock_async(httpx, many),
            5.0,
            "stock, 16 in flight",
        ),
    ):
        name = library.__name__
        ours = calls.ours_async(module, many)
        yield Pair(f"client: {name} async, {many} in flight", ours, stock, goal, peer)
        yield Pair(
            f"client: {name} async, 1 in flight",
            calls.ours_async(module, 1), calls.stock_async(library, 1), 1.0, "stock",
        )  # fmt: skip
        yield Pair(
            f"client: {name} sync",
            calls.ours_sync(module),
            calls.stock_sync(library),
            0.95,
            "stock",
        )


def _compare(pair: Pair, server: int, shares: list[float]) -> Measure:
    pair.ours(), pair.theirs()  # warm up
    ours, theirs = [], []
    for _ in range(SLICES):
        for run, rates in ((pair.ours, ours), (pair.theirs, theirs)):
            began, used = time.perf_counter(), cpu_seconds(server)
            rates.append(run())
            shares.append((cpu_seconds(server) - used) / (time.perf_counter() - began))
    ratio = Spread.of_ratios(ours, theirs)
    return Measure.ratio(pair.measure, ratio, goal=pair.goal, better="higher", peer=pair.peer)


class Calls:
    """Ways to call the server, each as a function that runs one slice.

    Args:
        workspace: Has the identities.
        port: Of the server.
    """

    def __init__(self, workspace: Workspace, port: int) -> None:
        self._url = f"https://localhost:{port}/"
        self._source = StaticSource(
            workspace.ca.issue("/ns/shop/sa/web"), TrustBundleSet([workspace.ca.bundle])
        )
        files = workspace.client
        self._context = ssl.create_default_context(cafile=str(files.authorities))
        self._context.load_cert_chain(files.certificate, files.key)

    def ours_async(self, module, in_flight: int) -> Callable[[], float]:
        """Our `AsyncClient`."""

        async def run() -> float:
            async with module.AsyncClient(server=ORDERS, source=self._source) as client:
                return await _load(lambda: client.get(self._url), in_flight)

        return lambda: asyncio.run(run())

    def stock_async(self, library, in_flight: int) -> Callable[[], float]:
        """The library's."""

        async def run() -> float:
            async with library.AsyncClient(verify=self._context, trust_env=False) as client:
                return await _load(lambda: client.get(self._url), in_flight)

        return lambda: asyncio.run(run())

    def aiohttp(self, in_flight: int) -> Callable[[], float]:
        """A plain `ClientSession`."""

        async def run() -> float:
            connector = aiohttp.TCPConnector(ssl=self._context)
            async with aiohttp.ClientSession(connector=connector) as session:

                async def call() -> None:
                    async with session.get(self._url) as response:
                        await response.read()

                return await _load(call, in_flight)

        return lambda: asyncio.run(run())

    def ours_sync(self, module) -> Callable[[], float]:
        """Our `Client`."""

        def run() -> float:
            with module.Client(server=ORDERS, source=self._source) as client:
                return _load_sync(lambda: client.get(self._url))

        return run

    def stock_sync(self, library) -> Callable[[], float]:
        """The library's."""

        def run() -> float:
            with library.Client(verify=self._context, trust_env=False) as client:
                return _load_sync(lambda: client.get(self._url))

        return run


async def _load(call: Callable[[], Awaitable[object]], in_flight: int) -> float:
    await asyncio.gather(*[call() for _ in range(in_flight)])  # connections are not measured
    done = 0
    began = time.perf_counter()

    async def worker() -> None:
        nonlocal done
        while time.perf_counter() - began < SECONDS:
            await call()
            done += 1

    await asyncio.gather(*[worker() for _ in range(in_flight)])
    return done / (time.perf_counter() - began)


def _load_sync(call: Callable[[], object]) -> float:
    call()
    done = 0
    began = time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        call()
        done += 1
    return done / (time.perf_counter() - began)
