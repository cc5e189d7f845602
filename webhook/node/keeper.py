# SPDX-License-Identifier: Apache-2.0
"""Keeps the volumes of this node: made when the kubelet asks, and current from then on.

Rules:
    1. The certificate comes first, then the files, then the pod sees them. Whoever asked for what
       fails on the way asks for its removal, too (`webhook.node.operations`).
    2. Once published, a volume stays as it is until something better is there. Publishing it again
       brings a fresh token, and costs next to nothing.
    3. Nothing is given up while the pod lives; its owner is told of what does not pass within a
       moment. New volumes never wait for renewals, nor these for them.
    4. Who renews needs a token that is valid now; without one it waits for the kubelet's next.
    5. Of a change only that something has changed is taken; what follows from it is found out by
       comparing each volume with what its pod shall have.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

from webhook.api import ApiError
from webhook.api.backoff import Backoff
from webhook.api.events import reference
from webhook.api.resources import PODS
from webhook.delivery.answer import NO_ANSWER
from webhook.exceptions import IssuanceError
from webhook.metrics import QUEUE
from webhook.node import metrics
from webhook.node.certifier import TOKEN_REFUSED
from webhook.node.contents import Held
from webhook.node.errand import run_errand
from webhook.node.kept_volume import KeptVolume
from webhook.node.pod_token import PodToken
from webhook.node.renewal import Renewal
from webhook.signing.worklist import Again, Lane, Worklist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from webhook.api import EventRecorder, Pod, Service
    from webhook.node.identity import Identity, IdentityIssuer
    from webhook.node.publication import PodReference, Publication
    from webhook.node.volume_store import VolumeStore

__all__ = ("Keeper",)

_log = logging.getLogger(__name__)

_FIRST_SECONDS: Final = 0.5
_LONGEST_SECONDS: Final = 120.0
_MOST_OF_POD: Final = 8
_TOO_MANY: Final = "TooManyVolumes"


class Keeper:
    """The controller of this node's volumes.

    Args:
        store: Where they lie; opened.
        events: Where Events go.
        limit: How many volumes are renewed at once.
        patience_seconds: How long a publication waits for its certificate.
        now: Unix time.

    Attributes:
        worklist: The volumes that are brought up to date, by their ids.
        has_news: Set when volumes may need something; `look` finds out which.
    """

    def __init__(
        self,
        store: VolumeStore,
        *,
        events: EventRecorder,
        limit: int = 8,
        patience_seconds: float = 45.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._events = events
        self._patience_seconds = patience_seconds
        self._now = now
        self._kept: dict[str, KeptVolume] = {}
        self._coming: Counter[str] = Counter()
        self._issuer: IdentityIssuer | None = None
        self._renewal: Renewal | None = None
        self._sees = asyncio.Event()
        self.has_news = asyncio.Event()
        self.worklist: Worklist[str] = Worklist(
            self._renew,
            limit=limit,
            backoff=lambda: Backoff(initial=_FIRST_SECONDS, maximum=_LONGEST_SECONDS),
        )
        metrics.VOLUMES.set_function(lambda: len(self._kept))
        metrics.EXPIRED.set_function(lambda: self._count(lambda kept: kept.has_expired(now())))
        metrics.WITHOUT_TOKEN.set_function(lambda: self._count(lambda kept: kept.lacks_token))
        QUEUE.labels(queue="node").set_function(lambda: self.worklist.waiting)

    @property
    def is_ready(self) -> bool:
        """Whether it knows all that it takes to publish."""
        return self._sees.is_set()

    async def take_over(self) -> None:
        """Keep the volumes that an earlier process left, as they are."""
        for publication in self._store:
            files = await run_errand(self._store.read, publication.volume_id)
            self._kept[publication.volume_id] = KeptVolume(publication, Held.read(files))
        _log.info("%d volumes of before are kept", len(self._kept))

    def start(self, issuer: IdentityIssuer) -> None:
        """From now on the cluster is seen: make and renew.

        Args:
            issuer: Gets identities.
        """
        self._issuer = issuer
        self._renewal = Renewal(self._store, issuer, has=self._has, now=self._now)
        self._sees.set()
        self.has_news.set()

    def published(self, volume_id: str) -> Publication | None:
        """The publication of a volume that a pod has."""
        kept = self._kept.get(volume_id)
        return None if kept is None else kept.publication

    async def publish(self, publication: Publication, token: str) -> None:
        """Publish a volume, or take a fresh token for one that is published.

        Args:
            publication: Which, and where.
            token: Of the pod, for our audience.

        Raises:
            IssuanceError: There is no identity for the pod, or it has more than enough volumes;
                retryable or final.
            ApiError: The API server refused.
            TargetError: Something at the target may not be there.
            OSError: The kernel or the disk refused.
        """
        kept = self._kept.get(publication.volume_id)
        if kept is not None:
            await self._publish_again(kept, token)
            return
        begun = time.monotonic()
        try:
            with self._counted(publication.pod):
                identity = await self._identity(publication.pod, token)
                await run_errand(self._place, publication, identity)
        except Exception as err:
            metrics.REFUSED.labels(reason=_reason(err)).inc()
            raise
        kept = KeptVolume(publication, Held.read(identity.files))
        kept.token = PodToken.received(token, self._now())
        self._kept[publication.volume_id] = kept
        self.has_news.set()  # What has changed meanwhile was not compared.
        metrics.PUBLISHED.labels(zone=identity.plan.grant.zone.name).inc()
        metrics.PUBLISH_SECONDS.observe(time.monotonic() - begun)
        _log.info("pod %s has its volume", publication.pod)

    async def unpublish(self, volume_id: str, target: Path) -> None:
        """Remove a volume, whole or half-made, and its target; an unknown one is no error.

        Raises:
            TargetError: Something at the target may not be there.
            OSError: The kernel or the disk refused; to be repeated.
        """
        await run_errand(self._store.remove, volume_id, target)
        if self._store.get(volume_id) is None:
            self._kept.pop(volume_id, None)
            self.worklist.forget(volume_id)

    def look(self) -> None:
        """Take up each volume that needs something."""
        if self._renewal is None:
            return
        for kept in self._kept.values():
            if kept.volume_id not in self.worklist and self._renewal.is_due(kept):
                deadline = kept.held.not_after if kept.held is not None else None
                self.worklist.add(kept.volume_id, lane=Lane.RENEWAL, deadline=deadline)

    def look_at_everything(self) -> None:
        """Look, also at what waits after a failure: bundles or the configuration have changed."""
        self.worklist.hurry_all()
        self.has_news.set()

    def pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        """Look again when a pod has come or has other labels: an informer's callback."""
        if new is not None and (old is None or old.labels != new.labels):
            self.has_news.set()

    def service_changed(self, old: Service | None, new: Service | None) -> None:
        """Look again when a Service of a pod's namespace has changed: an informer's callback."""
        namespaces = {each.namespace for each in (old, new) if each is not None}
        if any(kept.publication.pod.namespace in namespaces for kept in self._kept.values()):
            self.has_news.set()

    @contextmanager
    def _counted(self, pod: PodReference) -> Iterator[None]:
        """Bound what the author of one pod can have made: a key, a request and mounts for each."""
        kept = self._count(lambda each: each.publication.pod.uid == pod.uid)
        if kept + self._coming[pod.uid] >= _MOST_OF_POD:
            raise IssuanceError(f"a pod has at most {_MOST_OF_POD} volumes", reason=_TOO_MANY)
        self._coming[pod.uid] += 1
        try:
            yield
        finally:
            self._coming[pod.uid] -= 1
            self._coming += Counter()  # Forget who has none.

    async def _identity(self, pod: PodReference, token: str) -> Identity:
        """Get an identity, again and again until the kubelet's patience is to be spared."""
        cause: object = "the driver does not see the cluster yet"
        backoff = Backoff(initial=0.25, maximum=5.0)
        try:
            async with asyncio.timeout(self._patience_seconds):
                while (issuer := self._issuer) is None:
                    await self._sees.wait()
                cause = "nobody has answered"
                while True:
                    try:
                        return await issuer.issue(pod, token)
                    except (IssuanceError, ApiError) as err:
                        if not err.is_retryable or err.reason == TOKEN_REFUSED:
                            await self._tell(pod, err, "Warning", "VolumeNotPublished")
                            raise
                        cause = err
                    await asyncio.sleep(backoff.delay(at_least=_asked_to_wait(cause)))
        except TimeoutError:
            late = f"no certificate within {self._patience_seconds:g} s: {cause}"
            error = IssuanceError(late, reason=_reason(cause, NO_ANSWER), is_retryable=True)
            await self._tell(pod, error, "Warning", "VolumeNotPublished")
            raise error from None

    def _place(self, publication: Publication, identity: Identity) -> None:
        self._store.create(publication)
        self._store.write(publication.volume_id, identity.files)
        self._store.expose(publication.volume_id)

    async def _publish_again(self, kept: KeptVolume, token: str) -> None:
        kept.token = PodToken.received(token, self._now())
        if kept.lacks_token:
            kept.lacks_token = False
            self.has_news.set()
        try:
            if not self._store.is_exposed(kept.volume_id):
                await run_errand(self._store.expose, kept.volume_id)
        except Exception:
            metrics.REPUBLISH_FAILED.inc()
            raise

    async def _renew(self, volume_id: str, attempt: int) -> None:
        kept = self._kept.get(volume_id)
        if kept is None or self._renewal is None:
            return
        try:
            await self._renewal.bring_up_to_date(kept)
        except (IssuanceError, ApiError, OSError) as err:
            metrics.RENEW_POSTPONED.labels(reason=_reason(err)).inc()
            is_fleeting = not isinstance(err, OSError) and err.is_retryable
            if attempt or not is_fleeting:
                await self._tell(kept.publication.pod, err, "Warning", "VolumeNotRenewed")
            raise Again(str(err), at_least=_asked_to_wait(err)) from err

    async def _tell(
        self, pod: PodReference, err: Exception, type_: Literal["Warning"], reason: str
    ) -> None:
        note = f"{_reason(err)}: {err}"
        _log.warning("pod %s: %s: %s", pod, reason, note)
        await self._events.event(reference(PODS, pod), type_, reason, note, action="Publish")

    def _has(self, kept: KeptVolume) -> bool:
        return self._kept.get(kept.volume_id) is kept

    def _count(self, condition: Callable[[KeptVolume], bool]) -> int:
        return sum(map(condition, self._kept.values()))


def _reason(err: object, default: str = "") -> str:
    return getattr(err, "reason", "") or default or type(err).__name__


def _asked_to_wait(err: object) -> float:
    return getattr(err, "retry_after", None) or 0.0
