# SPDX-License-Identifier: Apache-2.0
"""A source with partners: another source's snapshot, and the bundles of partners beside its own.

    with VolumeSource() as volume, FederatedSource(volume, file="federation.yaml") as source:
        serve(server_context(source))

Rules:
    1. What the inner source says about a trust domain is in force; nothing is merged into it, and
       nothing fetched replaces it. Our own trust domain has no partner.
    2. A partner that is no longer declared is out with the next read of `snapshot`, whatever is
       under way.
    3. Nothing of a partner can fail the others, the inner source, or a handshake.
    4. A source belongs to the process that started it.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from kubetls_sdk._forks import disown_in_children
from kubetls_sdk._lifetime import AsyncLifetime
from kubetls_sdk.bundle import TrustBundleSet
from kubetls_sdk.exceptions import ConfigurationError, NotReadyError, SourceClosedError
from kubetls_sdk.federation._loop import FetchLoop
from kubetls_sdk.federation._registry import Registry
from kubetls_sdk.federation._store import BundleStore
from kubetls_sdk.source import Snapshot, Subscribers

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable
    from typing import Self

    from kubetls_sdk.exceptions import CredentialError
    from kubetls_sdk.federation.partner import Partner
    from kubetls_sdk.federation.status import FederationStatus
    from kubetls_sdk.source import Source

__all__ = ("FederatedSource",)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class FederatedSource(AsyncLifetime):
    """Adds the trust bundles of partners to a source; a `with` and an `async with` context manager.

    Args:
        source: Hands out our SVID and whom we trust already; started before and closed after.
        file: A federation file, followed live; see `kubetls_sdk.federation.document`.
        partners: Instead of a file; `set_partners` changes them.
        store: A directory of this process's own, such as an emptyDir: the last good bundles are
            kept there over a restart, with their age and sequence.
        wait_seconds: How long the start waits for a first answer of all endpoints. It ends well
            without them: partners are trusted when their bundles are there.
        poll_seconds: Look at the files at least this often, for mounts that send no notifications.
        clock: Returns the aware time of now.

    Raises:
        ConfigurationError: Both a file and partners, a trust domain twice, or a setting out of
            range, or the store is not ours alone.

    Spec: SPIFFE Federation §4.2, §6.
    """

    def __init__(
        self,
        source: Source,
        *,
        file: str | os.PathLike[str] | None = None,
        partners: Iterable[Partner] = (),
        store: str | os.PathLike[str] | None = None,
        wait_seconds: float = 5.0,
        poll_seconds: float = 10.0,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        if poll_seconds <= 0 or wait_seconds < 0:
            raise ConfigurationError("expected poll_seconds > 0 and wait_seconds >= 0")
        self._source = source
        kept = None if store is None else BundleStore(store)
        self._registry = Registry(file, tuple(partners), clock=clock, store=kept)
        self._loop = FetchLoop(self._registry, self._update, poll_seconds=poll_seconds)
        self._wait_seconds = wait_seconds
        self._subscribers = Subscribers()
        self._early_subscribers = Subscribers()
        self._lock = threading.RLock()
        self._state: tuple[Snapshot, Snapshot] | None = None
        self._prepared: tuple[Snapshot, Snapshot] | None = None
        self._unsubscribe: list[Callable[[], None]] = []
        self._why_none: CredentialError = NotReadyError("expected a started source: use 'with'")

    @property
    def snapshot(self) -> Snapshot:
        """The current snapshot.

        Raises:
            NotReadyError: It was not started, or the inner source has nothing.
            SourceClosedError: It or the inner source was closed, or the process was forked.
        """
        state = self._state
        if state is None:
            raise type(self._why_none)(self._why_none.message)
        if state[0] is self._source.snapshot:
            return state[1]
        return self._update()

    @property
    def status(self) -> FederationStatus:
        """What is known of the partners, and what is wrong."""
        return self._registry.status()

    def subscribe(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Call `callback` with each later snapshot; the returned function ends that."""
        return self._subscribers.add(callback)

    def subscribe_early(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Call `callback` with each later snapshot just before it is put in force."""
        return self._early_subscribers.add(callback)

    def set_partners(self, partners: Iterable[Partner]) -> None:
        """Declare other partners, in force when this returns.

        Raises:
            ConfigurationError: There is a federation file, or a trust domain is there twice.
        """
        self._registry.declare(tuple(partners))
        self._update()
        self._loop.reconcile()

    def refresh(self) -> None:
        """Look at the files and ask all endpoints soon; does not wait for their answers."""
        self._loop.refresh()

    def start(self) -> Self:
        """Read what is declared, begin to follow it, and wait a little for the first answers.

        Raises:
            ConfigurationError: The federation file is missing or cannot be used, or the source was
                started before.
            NotReadyError: The inner source has nothing.
            SourceClosedError: It was closed meanwhile.
        """
        if self._state is not None or self._loop.is_started:
            raise ConfigurationError("expected a new source, got one that was started before")
        self._registry.read_first()
        inner: Any = self._source
        if hasattr(inner, "subscribe_early"):
            self._unsubscribe.append(inner.subscribe_early(self._prepare))
        self._unsubscribe.append(inner.subscribe(self._take))
        self._update()
        disown_in_children(self)
        self._loop.start(self._wait_seconds)
        if self._loop.is_stopped:
            self.close()
            raise SourceClosedError("the source was closed while it started")
        return self

    def close(self) -> None:
        """End all fetches; the source hands out nothing any more. May be called twice."""
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self._loop.close()
        self._forget(SourceClosedError("the source was closed"))

    def __reduce__(self) -> NoReturn:
        raise TypeError("expected no pickling of a FederatedSource: make one in each process")

    def __repr__(self) -> str:
        return f"<FederatedSource of {self._source!r}>"

    def _update(self) -> Snapshot:
        """Put in force what the inner source and the partners say now."""
        with self._lock:
            inner = self._source.snapshot
            if isinstance(self._why_none, SourceClosedError):
                raise SourceClosedError(self._why_none.message)
            following = self._following(inner)
            state = self._state
            if state is not None and following is state[1]:
                self._state = (inner, following)
                return following
            self._prepared = None
            self._state = (inner, following)
            self._subscribers.notify(following)
            return following

    def _following(self, inner: Snapshot) -> Snapshot:
        """The snapshot for an inner one: the current one while nothing differs."""
        bundles = self._bundles(inner)
        for known in (self._state, self._prepared):
            if known is not None and _is_made_of(known[1], inner, bundles):
                return known[1]
        generation = 1 if self._state is None else self._state[1].generation + 1
        made = Snapshot(inner.svid, bundles, generation)
        self._early_subscribers.notify(made)
        return made

    def _take(self, _: Snapshot) -> None:
        """Follow the inner source."""
        self._update()
        self._loop.reconcile()  # an endpoint may wait for one of its bundles

    def _prepare(self, inner: Snapshot) -> None:
        """Make ready what comes into force with an inner snapshot."""
        with self._lock:
            self._prepared = (inner, self._following(inner))

    def _bundles(self, inner: Snapshot) -> TrustBundleSet:
        found = self._registry.bundles(own=inner.trust_domain, given=inner.bundles)
        return TrustBundleSet((*inner.bundles.values(), *found))

    def _forget(self, why: CredentialError) -> None:
        with self._lock:
            self._why_none = why
            self._state = self._prepared = None

    def _give_up(self) -> None:
        self._loop.stop()

    def _disown(self) -> None:
        """In a forked child: nobody follows the partners here."""
        self._lock = threading.RLock()
        self._subscribers = Subscribers()
        self._early_subscribers = Subscribers()
        self._unsubscribe = []
        self._loop.disown()
        self._registry.disown()
        self._forget(
            SourceClosedError("the source belongs to the process before the fork: make one here")
        )


def _is_made_of(snapshot: Snapshot, inner: Snapshot, bundles: TrustBundleSet) -> bool:
    return snapshot.svid == inner.svid and dict(snapshot.bundles) == dict(bundles)
