# SPDX-License-Identifier: Apache-2.0
"""What identity and authorization add to one request and to one connection, in process.

uvicorn's own protocol object parses the request and runs the application; there is no socket. This
is stable enough to be a gate in CI.
"""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import time
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from benchmarks.app import app
from benchmarks.measure import Measure, Spread
from benchmarks.workspace import POLICY
from kubetls_sdk import StaticSource, TrustBundleSet, audit, metrics, verify_svid
from kubetls_sdk.authz import PolicySet
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.connection import PeerConnection, tls_extension, with_connection
from kubetls_sdk.testing import DevelopmentCA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 201
REQUESTS = 100
_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: lg/1\r\nAccept: */*\r\n\r\n"


def measures() -> Iterator[Measure]:
    """Microseconds a request and a connection."""
    logging.getLogger("uvicorn.access").handlers.clear()
    with asyncio.Runner() as runner:
        peer, protected = runner.run(_protected())
        bare, ours = runner.run(_alternate(app, protected))
        added = [o - b for o, b in zip(ours, bare, strict=True)]
        spread = Spread.of(added)
        against = f"uvicorn + Starlette, {Spread.of(bare).median:.1f} us"
        yield Measure(
            "request: identity + policy", spread.median, "us", 1.0, "lower", against, spread
        )
        share = Spread.of([a / b * 100 for a, b in zip(added, bare, strict=True)])
        yield Measure(
            "request: share of the request", share.median, "%", 5.0, "lower", against, share
        )
        metrics.enable()
        audit.enable(logging.StreamHandler(_Nowhere()))
        bare, ours = runner.run(_alternate(app, protected))
        spread = Spread.of([o - b for o, b in zip(ours, bare, strict=True)])
        yield Measure(
            "request: with metrics and audit", spread.median, "us", 4.0, "lower", against, spread
        )
    yield _connection(peer)


async def _protected() -> tuple[PeerConnection, Any]:
    ca = DevelopmentCA("example.org")
    bundles = TrustBundleSet([ca.bundle])
    source = StaticSource(ca.issue("/ns/shop/sa/orders"), bundles)
    svid = ca.issue("/ns/shop/sa/web")
    verified = verify_svid(svid.chain, bundles=bundles, now=svid.not_before)
    peer = PeerConnection(source, verified, source.snapshot, address="127.0.0.1:1")
    peer.requests = list  # as a server that can tell what is under way
    policy = PolicySet.parse({"policy.yaml": POLICY}, trust_domain=ca.trust_domain)
    return peer, with_connection(KubeTLSMiddleware(app, policy=policy), {}, peer)


async def _alternate(bare: Any, ours: Any) -> tuple[list[float], list[float]]:
    connections = (_Connection(bare), _Connection(ours))
    times: tuple[list[float], list[float]] = ([], [])
    for connection in connections:
        await connection.run(REQUESTS)
    gc.collect()
    gc.disable()
    try:
        for round_ in range(ROUNDS):
            for which in (0, 1) if round_ % 2 else (1, 0):
                times[which].append(await connections[which].run(REQUESTS))
    finally:
        gc.enable()
    return times


class _Connection:
    """A protocol object of uvicorn with a transport that keeps nothing."""

    def __init__(self, application: Any) -> None:
        config = uvicorn.Config(app, access_log=False, log_config=None, proxy_headers=False)
        config.load()
        config.loaded_app = application
        self._protocol = HttpToolsProtocol(config, ServerState(), {})
        self._transport = _Transport()
        self._protocol.connection_made(self._transport)

    async def run(self, requests: int) -> float:
        """Serve requests one after the other and return microseconds of CPU a request."""
        transport, receive = self._transport, self._protocol.data_received
        started = time.thread_time()
        for _ in range(requests):
            transport.answered = False
            receive(_REQUEST)
            # One turn of the loop at a time, as sockets give.
            while not transport.answered:  # noqa: ASYNC110 - there is nobody to set an event
                await asyncio.sleep(0)
        elapsed = time.thread_time() - started
        if not transport.last.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"expected 200, got {transport.last[:80]!r}")
        return elapsed / requests * 1e6


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.answered = False
        self.last = b""

    def write(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1"):
            self.last = data
        if data.endswith(b'{"hello":"world"}'):
            self.answered = True

    def is_closing(self) -> bool:
        return False


def _connection(peer: PeerConnection) -> Measure:
    """Time what a connection costs beside its handshake and chain check."""
    source, verified = peer.source, peer.peer
    stand_in = _TlsObject(verified, source.snapshot)

    def once() -> None:
        made = PeerConnection(source, verified, source.snapshot, address="127.0.0.1:1")
        with_connection(app, tls_extension(stand_in), made)

    spread = Spread.of([_time(once, 500) for _ in range(ROUNDS)])
    return Measure(
        "request: per connection", spread.median, "us", 10.0, "lower", "the handshake", spread
    )


class _Nowhere(io.TextIOBase):
    """Takes the lines of the audit log: what a disk or a pipe costs is not ours to measure."""

    def write(self, text: str) -> int:
        return len(text)


class _TlsObject:
    """What `tls_extension` reads of a connection, with the cost of the chain's PEM left out."""

    def __init__(self, peer: Any, snapshot: Any) -> None:
        self.verified_peer = peer
        self.snapshot = snapshot
        self._sslobj = self

    def get_unverified_chain(self) -> tuple[()]:
        return ()

    def version(self) -> str:
        return "TLSv1.3"

    def cipher(self) -> tuple[str, str, int]:
        return ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)


def _time(function: Callable[[], None], times: int) -> float:
    started = time.thread_time()
    for _ in range(times):
        function()
    return (time.thread_time() - started) / times * 1e6
