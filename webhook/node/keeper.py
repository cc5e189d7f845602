# SPDX-License-Identifier: Apache-2.0
"""Keeps the volumes of this node: made when the kubelet asks, and current from then on.

Rules:
    1. A volume is made whole or not at all: the certificate comes first, then the files, then the
       pod sees them. What fails on the way leaves nothing behind.
    2. Once published, a volume stays as it is until something better is there. Publishing it again
       brings a fresh token, costs next to nothing and never fails: a kubelet may take a failure
       for the end of the mount.
    3. Nothing is given up while the pod lives; its owner is told of what does not pass within a
       moment.
    4. New volumes and renewals take turns, and so many are under way at once.
    5. Who renews needs a token that is valid now; without one it waits for the kubelet's next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from webhook.api import ApiError
from webhook.api.backoff import Backoff
from webhook.exceptions import IssuanceError
from webhook.metrics import QUEUE
from webhook.node import metrics
from webhook.node.contents import Held
from webhook.node.errand import run_errand
from webhook.node.first_publication import FirstPublication
from webhook.node.kept_volume import KeptVolume
from webhook.node.publication import InvalidPublication
from webhook.node.renewal import Renewal
from webhook.node.pod_token import PodToken
from webhook.signing.worklist import Again, Lane, Worklist

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from webhook.api import EventRecorder, Pod, Service
    from webhook.node.identity import Identity, IdentityIssuer
    from webhook.node.publication import Publication
    from webhook.node.volume_store import VolumeStore

__all__ = ("Keeper",)

_log = logging.getLogger(__name__)

_FIRST_SECONDS: Final = 0.25
_LONGEST_SECONDS: Final = 120.0


class Keeper:
    """The controller of this node's volumes.

    Args:
        store: Where they lie; opened.
        issuer: Gets identities.
        events: Where Events go.
        limit: How many volumes are worked on at once.
        patience_seconds: How long a publication may take; less than the kubelet waits.
        now: Unix time.

    Attributes:
        worklist: The volumes that something is done for, by their ids.
        has_news: Set when volumes may need something; `look` finds out which.
    """

    def __init__(
        self,
        store: VolumeStore,
        issuer: IdentityIssuer,
        *,
        events: EventRecorder,
        limit: int = 32,
        patience_seconds: float = 90.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._issuer = issuer
        self._events = events
        self._patience_seconds = patience_seconds
        self._now = now
        self._first: dict[str, FirstPublication] = {}
        self._kept: dict[str, KeptVolume] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._renewal = Renewal(store, issuer, events=events, now=now)
        self._is_seeing = False
        self.has_news = asyncio.Event()
        self.worklist: Worklist[str] = Worklist(
            self._work,
            limit=limit,
            backoff=lambda: Backoff(initial=_FIRST_SECONDS, maximum=_LONGEST_SECONDS),
        )
        metrics.VOLUMES.set_function(lambda: len(self._kept))
        metrics.EXPIRED.set_function(lambda: self._count(lambda kept: kept.has_expired(now())))
        metrics.WITHOUT_TOKEN.set_function(lambda: self._count(lambda kept: kept.lacks_token))
        QUEUE.labels(queue="node").set_function(lambda: self.worklist.waiting)

    async def take_over(self) -> None:
        """Keep the volumes that an earlier process left, as they are."""
        for publication in self._store:
            files = await run_errand(self._store.read, publication.volume_id)
            self._kept[publication.volume_id] = KeptVolume(publication, Held.read(files))
        if self._kept:
            _log.info("%d volumes of before are kept", len(self._kept))

    def start(self) -> None:
        """From now on the cluster is seen: make and renew."""
        self._is_seeing = True
        self.worklist.hurry_all()
        self.has_news.set()

    async def publish(self, publication: Publication, token: str) -> None:
        """Have a volume at its place.

        Args:
            publication: Which, and where.
            token: Of the pod, for our audience.

        Raises:
            InvalidPublication: The volume is another pod's, or at another place.
            IssuanceError: There is no identity for the pod; retryable or final.
            ApiError: The API server refused.
            TargetError: Something at the target may not be there.
            OSError: The kernel or the disk refused.
        """
        kept = self._kept.get(publication.volume_id)
        if kept is not None:
            _check_same(publication, kept.publication)
            await self._publish_again(kept, token)
        else:
            await self._publish_first(publication, token)

    async def unpublish(self, volume_id: str, target: Path) -> None:
        """Take a volume away; nothing happens when there is none.

        Raises:
            TargetError: Something at the target may not be there.
            OSError: The kernel or the disk refused; to be repeated.
        """
        first = self._first.pop(volume_id, None)
        if first is not None:
            first.fail(IssuanceError("unpublished", reason="Unpublished", is_retryable=True))
        lock = self._lock(volume_id)
        async with lock:
            await run_errand(self._store.remove, volume_id, target)
            if self._store.get(volume_id) is None:
                self._kept.pop(volume_id, None)
                self.worklist.forget(volume_id)

    def look(self) -> None:
        """Take up each volume that needs something."""
        if not self._is_seeing:
            return
        for volume_id, kept in self._kept.items():
            if volume_id not in self.worklist and self._renewal.is_due(kept):
                deadline = kept.held.not_after if kept.held is not None else None
                self.worklist.add(volume_id, lane=Lane.RENEWAL, deadline=deadline)

    def look_at_everything(self) -> None:
        """Take up what needs something, also what waits after a failure: things have changed."""
        self.worklist.hurry_all()
        self.has_news.set()

    def pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        """Look again when a pod's labels have changed: an informer's callback."""
        if old is None or new is None or old.labels != new.labels:
            self.has_news.set()

    def service_changed(self, old: Service | None, new: Service | None) -> None:
        """Look again when a Service of a pod's namespace has changed: an informer's callback."""
        namespaces = {each.namespace for each in (old, new) if each is not None}
        if any(kept.publication.pod.namespace in namespaces for kept in self._kept.values()):
            self.has_news.set()

    async def _publish_again(self, kept: KeptVolume, token: str) -> None:
        kept.token = PodToken.received(token, self._now())
        if kept.lacks_token:
            kept.lacks_token = False
            self.has_news.set()
        volume_id = kept.publication.volume_id
        try:
            if not self._store.is_exposed(volume_id):
                await run_errand(self._store.expose, volume_id)
        except Exception as err:  # noqa: BLE001 - never an error once published: see above
            metrics.REPUBLISH_FAILED.inc()
            _log.error("the volume of pod %s is not whole: %s", kept.publication.pod, err)

    async def _publish_first(self, publication: Publication, token: str) -> None:
        first = self._first.get(publication.volume_id)
        if first is None:
            first = FirstPublication(publication, token)
            self._first[publication.volume_id] = first
        _check_same(publication, first.publication)
        first.token = token
        self.worklist.add(publication.volume_id, lane=Lane.NEW)
        try:
            await first.wait(self._patience_seconds)
        except Exception as err:
            reason = getattr(err, "reason", "") or type(err).__name__
            metrics.REFUSED.labels(reason=reason).inc()
            raise
        finally:
            if not first.is_waited_for and self._first.get(publication.volume_id) is first:
                del self._first[publication.volume_id]
                self.worklist.forget(publication.volume_id)

    async def _work(self, volume_id: str, attempt: int) -> None:
        if not self._is_seeing:
            raise Again("the cluster is not seen yet")
        if (first := self._first.get(volume_id)) is not None:
            await self._make(first)
        elif (kept := self._kept.get(volume_id)) is not None:
            await self._renewal.keep(kept, attempt, lock=self._lock(volume_id), is_kept=self._has)

    def _has(self, kept: KeptVolume) -> bool:
        return self._kept.get(kept.publication.volume_id) is kept

    async def _make(self, first: FirstPublication) -> None:
        publication = first.publication
        try:
            identity = await self._issuer.issue(publication.pod, first.token)
            await self._install(first, identity)
        except (IssuanceError, ApiError) as err:
            if err.is_retryable:
                first.cause = err
                raise Again(str(err), at_least=getattr(err, "retry_after", None) or 0.0) from err
            self._fail(first, err)
        except Exception as err:  # noqa: BLE001 - whatever it is, the kubelet is told and comes again
            self._fail(first, err)

    async def _install(self, first: FirstPublication, identity: Identity) -> None:
        """Put an identity at its place, unless nobody waits for it any more."""
        publication = first.publication
        volume_id = publication.volume_id
        lock = self._lock(volume_id)
        async with lock:
            if self._first.get(volume_id) is not first:
                return
            await run_errand(self._place, publication, identity)
            if self._first.get(volume_id) is not first:
                await run_errand(self._store.remove, volume_id, publication.target)
                return
            kept = KeptVolume(publication, Held.read(identity.files))
            kept.token = PodToken.received(first.token, self._now())
            self._kept[volume_id] = kept
            del self._first[volume_id]
        first.succeed()
        self.has_news.set()  # What changed meanwhile was not compared.
        metrics.PUBLISHED.labels(zone=identity.plan.grant.zone.name).inc()
        metrics.PUBLISH_SECONDS.observe(first.seconds)
        _log.info("pod %s has its volume", publication.pod)

    def _place(self, publication: Publication, identity: Identity) -> None:
        self._store.create(publication)
        try:
            self._store.write(publication.volume_id, identity.files)
            self._store.expose(publication.volume_id)
        except BaseException:
            with contextlib.suppress(Exception):
                self._store.remove(publication.volume_id, publication.target)
            raise

    def _fail(self, first: FirstPublication, err: Exception) -> None:
        if self._first.get(first.publication.volume_id) is first:
            del self._first[first.publication.volume_id]
        first.fail(err)

    def _lock(self, volume_id: str) -> asyncio.Lock:
        return self._locks.setdefault(volume_id, asyncio.Lock())

    def _count(self, condition: Callable[[KeptVolume], bool]) -> int:
        return sum(map(condition, self._kept.values()))


def _check_same(asked: Publication, known: Publication) -> None:
    """Refuse what would be two volumes of one id."""
    if asked != known:
        raise InvalidPublication(
            "volume_id", "this volume is published for another pod, at another place or otherwise"
        )
