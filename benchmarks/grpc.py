# SPDX-License-Identifier: Apache-2.0
"""gRPC with identities and policy beside plain mutual TLS of grpcio: servers, clients, channels.

Unary calls of 100 bytes; client in this process on one core, each server in its own on another;
slices alternate. A server under test is called by a stock channel, a channel calls a stock server.

The server's part: `python -m benchmarks.grpc KIND FLAVOUR PORT DIRECTORY`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from benchmarks.measure import Measure, Spread
from benchmarks.processes import LOAD_CPU, Processes, cpu_seconds, free_port, on_core, python
from benchmarks.workspace import Workspace
from kubetls_sdk import StaticSource, TrustBundleSet, VolumeSource
from kubetls_sdk.client.grpc import aio_secure_channel, secure_channel
from kubetls_sdk.server.grpc import aio_server, caller, server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLICES = 15
SECONDS = 0.5
IN_FLIGHT = 16
MESSAGE = b"x" * 100
METHOD = "/bench.Echo/Call"
ORDERS = "spiffe://example.org/ns/shop/sa/orders"
POLICY = """\
version: 1
policies:
  - name: bench
    allow:
      - name: web
        from: {namespace: shop, serviceAccount: web}
        to: {grpc: bench.Echo/Call}
"""


def measures() -> Iterator[Measure]:
    """Calls and new channels a second, as slice-by-slice ratios."""
    with Workspace.temporary() as workspace, Processes.started() as processes, on_core(LOAD_CPU):
        workspace.policy.write_text(POLICY)
        calls = Calls(workspace)
        for kind, load in (("async", calls.flood), ("threaded", calls.blocking)):
            ours = _start(processes, kind, "ours", workspace)
            plain = _start(processes, kind, "plain", workspace)
            stock = calls.stock
            yield from _compare(
                f"grpc server, {kind}: calls/s", load, (stock, ours), (stock, plain), 0.92
            )
            yield from _compare(
                f"grpc client, {kind}: calls/s", load, (calls.ours, plain), (stock, plain), 0.9
            )
            yield from _compare(
                f"grpc client, {kind}: channels/s, reopened",
                calls.anew if kind == "threaded" else calls.anew_async,
                (calls.ours, plain),
                (stock, plain),
                0.8,
            )
            yield from _compare(
                f"grpc client, {kind}: channels/s, all different",
                calls.anew if kind == "threaded" else calls.anew_async,
                (calls.different, plain),
                (stock, plain),
                None,
            )


End = tuple["Callable[..., object]", tuple[int, int]]


def _compare(
    name: str, load: Callable[..., float], ours: End, theirs: End, goal: float | None
) -> Iterator[Measure]:
    """Alternate slices; where two servers are compared, also their CPU time for each call."""
    rates: tuple[list[float], list[float]] = ([], [])
    costs: tuple[list[float], list[float]] = ([], [])
    for number in range(2 * SLICES):
        side = number % 2
        make, (port, pid) = (ours, theirs)[side]
        before, start = cpu_seconds(pid), time.perf_counter()
        rate = load(make, port)
        done = rate * (time.perf_counter() - start)
        rates[side].append(rate)
        costs[side].append((cpu_seconds(pid) - before) / done)
    spread = Spread.of_ratios(*rates)
    yield Measure.ratio(name, spread, goal=goal, better="higher", peer="grpcio's own, same run")
    if ours[1] != theirs[1]:
        cost = Spread.of_ratios(*costs)
        yield Measure.ratio(
            f"{name}, server CPU", cost, goal=None, better="lower", peer="grpcio's own, same run"
        )


class Calls:
    """Ways to make channels and to load a server.

    Args:
        workspace: Has the certificates.
    """

    def __init__(self, workspace: Workspace) -> None:
        svid = workspace.ca.issue("/ns/shop/sa/web")
        self._source = StaticSource(svid, TrustBundleSet([workspace.ca.bundle]))
        self._credentials = grpc.ssl_channel_credentials(
            workspace.ca.bundle.to_pem(), svid.private_key_pem(), svid.certificates_pem()
        )
        self._count = 0

    def ours(self, port: int, *, is_async: bool = False):
        """A channel of ours."""
        make = aio_secure_channel if is_async else secure_channel
        return make(f"localhost:{port}", self._source, server_id=ORDERS)

    def different(self, port: int, *, is_async: bool = False):
        """One that cannot reuse what an earlier one has left."""
        self._count += 1
        make = aio_secure_channel if is_async else secure_channel
        options = [("kubetls.benchmark", self._count)]
        return make(f"localhost:{port}", self._source, server_id=ORDERS, options=options)

    def stock(self, port: int, *, is_async: bool = False):
        """A channel of grpcio with mutual TLS, which follows no source."""
        make = grpc.aio.secure_channel if is_async else grpc.secure_channel
        return make(f"localhost:{port}", self._credentials)

    def blocking(self, make, port: int) -> float:
        """Calls a second of threads that each wait for their answer."""
        with make(port) as channel, ThreadPoolExecutor(4) as pool:
            call = channel.unary_unary(METHOD)
            call(MESSAGE)
            start = time.perf_counter()

            def run() -> int:
                done = 0
                while time.perf_counter() - start < SECONDS:
                    call(MESSAGE)
                    done += 1
                return done

            done = sum(each.result() for each in [pool.submit(run) for _ in range(4)])
            return done / (time.perf_counter() - start)

    def flood(self, make, port: int) -> float:
        """Calls a second of one event loop with several in flight."""

        async def run() -> float:
            async with make(port, is_async=True) as channel:
                call = channel.unary_unary(METHOD)
                await call(MESSAGE)
                start = time.perf_counter()

                async def one() -> int:
                    done = 0
                    while time.perf_counter() - start < SECONDS:
                        await call(MESSAGE)
                        done += 1
                    return done

                done = sum(await asyncio.gather(*[one() for _ in range(IN_FLIGHT)]))
                return done / (time.perf_counter() - start)

        return asyncio.run(run())

    def anew(self, make, port: int) -> float:
        """Channels a second that are opened for one call and closed."""
        done, start = 0, time.perf_counter()
        while time.perf_counter() - start < SECONDS:
            with make(port) as channel:
                channel.unary_unary(METHOD)(MESSAGE)
            done += 1
        return done / (time.perf_counter() - start)

    def anew_async(self, make, port: int) -> float:
        """The same in an event loop."""

        async def run() -> float:
            done, start = 0, time.perf_counter()
            while time.perf_counter() - start < SECONDS:
                async with make(port, is_async=True) as channel:
                    await channel.unary_unary(METHOD)(MESSAGE)
                done += 1
            return done / (time.perf_counter() - start)

        return asyncio.run(run())


def _start(processes: Processes, kind: str, flavour: str, workspace: Workspace) -> tuple[int, int]:
    port = free_port()
    directory = str(workspace.policy.parent)
    command = python("-m", "benchmarks.grpc", kind, flavour, str(port), directory)
    return port, processes.start(command, port=port)


def _handlers(behavior):
    method = grpc.unary_unary_rpc_method_handler(behavior)
    return (grpc.method_handlers_generic_handler("bench.Echo", {"Call": method}),)


def _stock_credentials(directory: Path):
    files = directory / "stock"
    pair = ((files / "key.pem").read_bytes(), (files / "cert.pem").read_bytes())
    roots = (files / "ca.pem").read_bytes()
    return grpc.ssl_server_credentials([pair], roots, require_client_auth=True)


def _settings(directory: Path):
    source = VolumeSource(str(directory / "volume")).start()
    return {"source": source, "policy": str(directory / "policy.yaml")}


def _serve_threads(flavour: str, port: int, directory: Path) -> None:
    if flavour == "ours":
        made = server(ThreadPoolExecutor(8), **_settings(directory))
        made.add_generic_rpc_handlers(
            _handlers(lambda request, context: request if caller(context).spiffe_id else b"")
        )
        made.add_secure_port(f"127.0.0.1:{port}")
    else:
        made = grpc.server(ThreadPoolExecutor(8))
        made.add_generic_rpc_handlers(_handlers(lambda request, _: request))
        made.add_secure_port(f"127.0.0.1:{port}", _stock_credentials(directory))
    made.start()
    made.wait_for_termination()


async def _serve_async(flavour: str, port: int, directory: Path) -> None:
    async def echo(request, _):
        return request

    async def echo_to_known(request, context):
        return request if caller(context).spiffe_id else b""

    if flavour == "ours":
        made = aio_server(**_settings(directory))
        made.add_generic_rpc_handlers(_handlers(echo_to_known))
        made.add_secure_port(f"127.0.0.1:{port}")
    else:
        made = grpc.aio.server()
        made.add_generic_rpc_handlers(_handlers(echo))
        made.add_secure_port(f"127.0.0.1:{port}", _stock_credentials(directory))
    await made.start()
    await made.wait_for_termination()


def main(kind: str, flavour: str, port: str, directory: str) -> None:
    if kind == "async":
        asyncio.run(_serve_async(flavour, int(port), Path(directory)))
    else:
        _serve_threads(flavour, int(port), Path(directory))


if __name__ == "__main__":
    main(*sys.argv[1:])
