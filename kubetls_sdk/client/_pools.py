# SPDX-License-Identifier: Apache-2.0
"""Which connection pool a request may use: one for each expected identity and generation.

Pure book-keeping for sync and async transports alike; nothing here does I/O.

Rules:
    1. The expected identity is the key: a connection made for one is never used for another.
    2. A pool belongs to one generation of the source, and ends with it or with the first expiry of
       a server's certificate seen in it, whichever comes first. No request starts in it after that.
    3. Requests that have started finish where they started. A retired pool closes after the last.
    4. Idle connections of a retired pool close at once, but not while a request in it still looks
       for its connection: it may have been promised an idle one.
    5. A request that still waits for a connection when a server's root is removed does not get one
       to that server.
    6. There are at most `MAX_POOLS`, whatever hosts are called: the one whose last use is longest
       ago retires for a new one, by the same rules.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from kubetls_sdk._context import client_context
from kubetls_sdk.exceptions import CredentialError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubetls_sdk._context import ReloadingContext
    from kubetls_sdk.expectation import ExpectedPeer
    from kubetls_sdk.source import Snapshot, Source
    from kubetls_sdk.spiffe_id import TrustDomain
    from kubetls_sdk.verification import VerifiedPeer

__all__ = ("MAX_POOLS", "Pool", "Pools")

MAX_POOLS = 200


class Pool:
    """The connections to servers of one expected identity, made under one generation.

    Attributes:
        snapshot: The generation.
        transport: The library's transport that holds the connections.
        starting: Requests that have no response yet.
        streaming: Responses that are still being read.
        answered: Origins that have answered a request.
        last_use: Of all requests of the client, the number of the last one that started here.
    """

    __slots__ = (
        "_anchors",
        "_ends_at",
        "_last_peer",
        "answered",
        "last_use",
        "loop",
        "snapshot",
        "starting",
        "streaming",
        "transport",
    )

    def __init__(self, snapshot: Snapshot, transport: Any, loop: object) -> None:
        self.snapshot = snapshot
        self.transport = transport
        self.loop = loop
        self.starting = 0
        self.streaming = 0
        self.last_use = 0
        self.answered: set[object] = set()
        self._anchors: set[tuple[TrustDomain, bytes]] = set()
        self._last_peer: VerifiedPeer | None = None
        self._ends_at = float("inf")

    def note(self, peer: VerifiedPeer | None) -> None:
        """Take into account what a server's certificate rests on, and when it expires."""
        if peer is not self._last_peer and peer is not None:
            self._last_peer = peer
            self._anchors.add((peer.spiffe_id.trust_domain, peer.anchor_der))
            self._ends_at = min(self._ends_at, peer.expires_at.timestamp())

    def is_usable(self, snapshot: Snapshot, loop: object) -> bool:
        """Tell whether a new request may start here."""
        return self.snapshot is snapshot and self.loop is loop and time.time() < self._ends_at

    def keep_to(self, source: Source) -> None:
        """Reuse no connection any more once the root of a server seen here was removed."""
        try:
            bundles = source.snapshot.bundles
        except CredentialError:  # a closed source trusts nobody
            self.transport.keep_none()
            return
        if any(bundles.anchor(*anchor) is None for anchor in self._anchors):
            self.transport.keep_none()


class Pools:
    """The pools of one client.

    Args:
        source: Its snapshot decides which pools are current.
        make: Makes the library's transport around a context.
        alpn_protocols: What that transport will offer; so the context is built once.
    """

    def __init__(
        self,
        source: Source,
        make: Callable[[ReloadingContext], Any],
        *,
        alpn_protocols: Sequence[str] = ("http/1.1",),
    ) -> None:
        self._source = source
        self._make = make
        self._alpn_protocols = alpn_protocols
        self._lock = threading.Lock()
        self._contexts: dict[ExpectedPeer, ReloadingContext] = {}
        self._pools: dict[ExpectedPeer, Pool] = {}
        self._retired: set[Pool] = set()
        self._started = 0

    @property
    def has_retired(self) -> bool:
        """Whether there may be something to close."""
        return bool(self._retired)

    def start(self, expected: ExpectedPeer, loop: object = None) -> Pool:
        """Return the pool for a new request, which counts as starting until `answer` or `fail`.

        Raises:
            CredentialError: The source has nothing to authenticate with.
        """
        snapshot = self._source.snapshot
        with self._lock:
            pool = self._pools.get(expected)
            if pool is None or not pool.is_usable(snapshot, loop):
                pool = self._replace(expected, snapshot, loop)
            pool.starting += 1
            self._started = pool.last_use = self._started + 1
        return pool

    def answer(self, pool: Pool, peer: VerifiedPeer | None, *, is_open: bool = True) -> None:
        """The response has begun; when it is open, its body is being read until `finish`."""
        with self._lock:
            pool.starting -= 1
            pool.streaming += is_open
            pool.note(peer)
            if pool in self._retired:
                pool.keep_to(self._source)

    def fail(self, pool: Pool) -> None:
        """The request ended without a response."""
        with self._lock:
            pool.starting -= 1

    def finish(self, pool: Pool) -> None:
        """The response has been read or given up."""
        with self._lock:
            pool.streaming -= 1

    def retire_older(self) -> None:
        """Let no new request start in pools of another generation than the current one."""
        snapshot = self._source.snapshot
        with self._lock:
            older = [key for key, pool in self._pools.items() if pool.snapshot is not snapshot]
            self._retire(older)

    def retire_all(self) -> None:
        """Retire every pool, as when the client closes; nothing is in flight any more."""
        with self._lock:
            self._retire(list(self._pools))
            self._contexts.clear()
            for pool in self._retired:
                pool.starting = pool.streaming = 0

    def take_idle(self) -> tuple[list[Pool], list[Pool]]:
        """Return retired pools whose idle connections must close, and those to close as a whole.

        The latter are forgotten: whoever takes them closes them.
        """
        with self._lock:
            ended = [p for p in self._retired if not p.starting and not p.streaming]
            self._retired.difference_update(ended)
            return [p for p in self._retired if not p.starting], ended

    def _replace(self, expected: ExpectedPeer, snapshot: Snapshot, loop: object) -> Pool:
        if expected in self._pools:
            self._retire([expected])
        elif len(self._pools) >= MAX_POOLS:
            self._retire([min(self._pools, key=lambda key: self._pools[key].last_use)])
        context = self._contexts.get(expected)
        if context is None:
            context = self._contexts[expected] = client_context(
                self._source, expect=expected, alpn_protocols=self._alpn_protocols
            )
        pool = self._pools[expected] = Pool(snapshot, self._make(context), loop)
        return pool

    def _retire(self, keys: list[ExpectedPeer]) -> None:
        # A context outlives its pool, so that the next one finds it built; but only once, so that
        # a client which calls ever new hosts does not keep one for each.
        for key in set(self._contexts) - set(self._pools):
            del self._contexts[key]
        self._retired.update(self._pools.pop(key) for key in keys)
        for pool in self._retired:
            if pool.starting or pool.streaming:
                pool.keep_to(self._source)
