# SPDX-License-Identifier: Apache-2.0
"""What is done for the kubelet, one thing at a time for each volume.

Rules:
    1. What was begun for a volume ends by itself, whether or not its caller still waits: a call
       that is cancelled or lost is found done by the next one, which joins it while it runs.
    2. A publication that fails, is late or is cancelled leaves nothing on the node.
    3. Whoever unpublishes is not kept waiting by a publication: that is cancelled.
    4. A volume that is published stays published: a repetition renews its token, and its failure
       is ours to log, since a kubelet before 1.37 takes an error for the end of the volume.
    5. Different volumes wait for each other only when very many of one namespace are made at once.

Spec: CSI 1.13, NodePublishVolume (table of second calls), "Concurrency".
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from kubetls_sdk.exceptions import KubeTLSError
from webhook.exceptions import WebhookError

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from webhook.node.publication import Publication

__all__ = ("ConflictingPublication", "InterruptedOperation", "Operations", "Volumes")

_log = logging.getLogger(__name__)

_MOST_AT_ONCE: Final = 64
_PUBLISH_SECONDS: Final = 100.0  # The kubelet's own patience is 120.


class ConflictingPublication(WebhookError):  # noqa: N818 - a verdict on a request
    """A volume is published, or being published, otherwise than is asked for.

    Attributes:
        is_elsewhere: At another target; otherwise at this one, with other arguments.
    """

    def __init__(self, known: Publication, asked: Publication) -> None:
        self.is_elsewhere = known.target != asked.target
        what = f"at {known.target}" if self.is_elsewhere else "with other arguments"
        super().__init__(f"volume {known.volume_id!r} of pod {known.pod} is published {what}")


class InterruptedOperation(WebhookError):  # noqa: N818 - what happened, and no fault
    """A publication ended because its volume is being unpublished, or the driver stops."""


class Volumes(Protocol):
    """Whoever keeps the volumes: has them published, renewed and removed."""

    @property
    def is_ready(self) -> bool:
        """Whether it knows all that it takes to publish."""

    def published(self, volume_id: str) -> Publication | None:
        """The publication of a volume that a pod has; None for others. Does not block."""

    async def publish(self, publication: Publication, token: str) -> None:
        """Publish a volume, or take a fresh token for one that is published, and look after it."""

    async def unpublish(self, volume_id: str, target: Path) -> None:
        """Remove a volume, whole or half-made, and its target; an unknown one is no error."""


@dataclass(frozen=True, slots=True)
class _Operation:
    """Something under way: a publication, or for `asked` None, the end of one at `target`."""

    task: asyncio.Task[None]
    target: Path
    asked: Publication | None = None


class Operations:
    """What is under way on this node.

    Args:
        volumes: Who does it.
        most_at_once: How many publications of a namespace are begun at once; others of it wait.
        publish_seconds: How long one may take, waiting included.
    """

    def __init__(
        self,
        volumes: Volumes,
        *,
        most_at_once: int = _MOST_AT_ONCE,
        publish_seconds: float = _PUBLISH_SECONDS,
    ) -> None:
        self._volumes = volumes
        self._most_at_once = most_at_once
        self._slots: weakref.WeakValueDictionary[str, asyncio.Semaphore] = (
            weakref.WeakValueDictionary()
        )
        self._publish_seconds = publish_seconds
        self._running: dict[str, _Operation] = {}

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._running)

    async def publish(self, publication: Publication, token: str) -> None:
        """Publish a volume; one that is published already has its token renewed.

        Raises:
            ConflictingPublication: It is published otherwise.
            InterruptedOperation: It was unpublished meanwhile.
            TimeoutError: It took too long; nothing is left of it.
            Exception: What `Volumes.publish` raised; nothing is left of it.
        """
        volume_id = publication.volume_id
        while (running := self._running.get(volume_id)) and running.asked is None:
            await asyncio.wait({running.task})
        if running is not None and running.asked is not None:
            _require_same(running.asked, publication)
        elif (known := self._volumes.published(volume_id)) is not None:
            _require_same(known, publication)
            await self._renew(publication, token)
            return
        else:
            running = self._start(
                volume_id, self._publish(publication, token), publication.target, publication
            )
        await _outcome(running.task)

    async def unpublish(self, volume_id: str, target: Path) -> None:
        """Remove a volume; a publication under way is cancelled first.

        Raises:
            Exception: What `Volumes.unpublish` raised; to be repeated.
        """
        while (running := self._running.get(volume_id)) is not None:
            if running.asked is None and running.target == target:
                await _outcome(running.task)
                return
            if running.asked is not None:
                running.task.cancel()
            await asyncio.wait({running.task})
        ending = self._volumes.unpublish(volume_id, target)
        await _outcome(self._start(volume_id, ending, target).task)

    async def stop(self) -> None:
        """Cancel the publications under way, and wait until all that was begun has ended."""
        while self._running:
            for running in list(self._running.values()):
                if running.asked is not None:
                    running.task.cancel()
            await asyncio.wait({running.task for running in self._running.values()})

    def _start(
        self,
        volume_id: str,
        work: Coroutine[Any, Any, None],
        target: Path,
        asked: Publication | None = None,
    ) -> _Operation:
        operation = _Operation(asyncio.create_task(work), target, asked)
        self._running[volume_id] = operation
        operation.task.add_done_callback(lambda task: self._ended(volume_id, task))
        return operation

    def _ended(self, volume_id: str, task: asyncio.Task[None]) -> None:
        del self._running[volume_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("volume %r: %s: %s", volume_id, type(error).__name__, error)

    async def _publish(self, publication: Publication, token: str) -> None:
        seconds, has_turn = self._publish_seconds, False
        slots = self._slots.setdefault(
            publication.pod.namespace, asyncio.Semaphore(self._most_at_once)
        )
        try:
            async with asyncio.timeout(seconds), slots:
                has_turn = True
                await self._volumes.publish(publication, token)
        except BaseException as error:
            await self._undo(publication)
            if isinstance(error, TimeoutError) and not has_turn:
                late = f"no turn within {seconds:g} s: {len(self)} volumes are being published"
                raise TimeoutError(late) from None
            raise

    async def _undo(self, publication: Publication) -> None:
        """Remove what a failed publication left; that it failed is what the caller is told."""
        try:
            await self._volumes.unpublish(publication.volume_id, publication.target)
        except (KubeTLSError, OSError) as error:
            _log.error("the volume of pod %s is not removed: %s", publication.pod, error)

    async def _renew(self, publication: Publication, token: str) -> None:
        try:
            await self._volumes.publish(publication, token)
        except Exception:  # noqa: BLE001 - rule 4: an error would end the volume
            _log.exception("pod %s keeps its volume, which cannot be renewed", publication.pod)


def _require_same(known: Publication, asked: Publication) -> None:
    if known != asked:
        raise ConflictingPublication(known, asked)


async def _outcome(task: asyncio.Task[None]) -> None:
    """Wait for a task without a hold on it: who stops waiting does not end it."""
    await asyncio.wait({task})
    if task.cancelled():
        raise InterruptedOperation("the volume is being unpublished, or the driver stops")
    task.result()
