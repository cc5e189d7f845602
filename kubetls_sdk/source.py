# SPDX-License-Identifier: Apache-2.0
"""Where a workload's identity and trust come from: a source hands out immutable snapshots.

Rules:
    1. A snapshot is one consistent pair of SVID and bundles; nobody mixes two generations.
    2. Generations only grow, and an unchanged content is no new generation.
    3. A source is asked at every handshake and every request, so `snapshot` is a plain read.
    4. A subscriber is called once the new snapshot is visible, from any thread; it must not block.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubetls_sdk.bundle import TrustBundle, TrustBundleSet
    from kubetls_sdk.spiffe_id import TrustDomain
    from kubetls_sdk.svid import X509Svid

__all__ = ("Snapshot", "Source", "StaticSource", "Subscribers")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """One consistent state of a source.

    Attributes:
        svid: Our chain and private key.
        bundles: Whom we trust, by trust domain.
        generation: 1 for the first, growing by one with each change.
        created_at: Aware UTC time at which this state was first seen.
    """

    svid: X509Svid
    bundles: TrustBundleSet
    generation: int
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def trust_domain(self) -> TrustDomain:
        """Our own trust domain."""
        return self.svid.spiffe_id.trust_domain

    @property
    def own_bundle(self) -> TrustBundle | None:
        """The trust bundle of our own trust domain, or None when the platform delivered none."""
        return self.bundles.get(self.trust_domain)


@runtime_checkable
class Source(Protocol):
    """Anything that hands out snapshots. Implement these two members to bring your own."""

    @property
    def snapshot(self) -> Snapshot:
        """The current snapshot; cheap, never blocks.

        Raises:
            NotReadyError: Nothing was loaded yet.
            SourceClosedError: The source was closed.
        """
        ...

    def subscribe(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Call `callback` with each later snapshot; the returned function ends that."""
        ...


class Subscribers:
    """The callbacks of one source; for those who implement `Source`. Safe for threads."""

    def __init__(self) -> None:
        self._callbacks: dict[object, Callable[[Snapshot], None]] = {}
        self._lock = threading.Lock()

    def add(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Add a callback and return the function that removes it again."""
        key = object()
        with self._lock:
            self._callbacks[key] = callback

        def remove() -> None:
            with self._lock:
                self._callbacks.pop(key, None)

        return remove

    def notify(self, snapshot: Snapshot) -> None:
        """Call all; one that raises is logged and does not keep the others from hearing."""
        with self._lock:
            callbacks = list(self._callbacks.values())
        for callback in callbacks:
            try:
                callback(snapshot)
            except Exception:  # noqa: BLE001 - the outermost loop; a subscriber is foreign code
                _log.exception("a subscriber failed on generation %d", snapshot.generation)


class StaticSource:
    """A source that changes only when it is told to: for tests, tools and local development.

    Args:
        svid: Our chain and private key.
        bundles: Whom we trust.
    """

    def __init__(self, svid: X509Svid, bundles: TrustBundleSet) -> None:
        self._snapshot = Snapshot(svid, bundles, generation=1)
        self._subscribers = Subscribers()
        self._lock = threading.Lock()

    @property
    def snapshot(self) -> Snapshot:
        """The current snapshot."""
        return self._snapshot

    def subscribe(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Call `callback` with each later snapshot; the returned function ends that."""
        return self._subscribers.add(callback)

    def replace(
        self, *, svid: X509Svid | None = None, bundles: TrustBundleSet | None = None
    ) -> Snapshot:
        """Put a new SVID, new bundles or both in force, as one new generation."""
        with self._lock:
            current = self._snapshot
            new_svid = svid if svid is not None else current.svid
            new_bundles = bundles if bundles is not None else current.bundles
            if new_svid == current.svid and new_bundles == current.bundles:
                return current
            self._snapshot = Snapshot(new_svid, new_bundles, current.generation + 1)
            snapshot = self._snapshot
        self._subscribers.notify(snapshot)
        return snapshot
