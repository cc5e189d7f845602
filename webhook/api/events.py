# SPDX-License-Identifier: Apache-2.0
"""Events on pods and other objects, which `kubectl describe` shows to their owners.

    async with EventRecorder(api, "kubetls-signer") as events:
        await events.event(pod_reference, "Warning", "Denied", "the zone is not this namespace's")

Rules:
    1. Telling never blocks, never raises and never fails the work that it tells of: the queue is
       bounded, and what does not fit is counted in `dropped`.
    2. The same message about the same object is one Event with a series, whose count is written
       at most once a minute.
    3. Notes are cut to the API's 1,024 bytes. The caller keeps secrets out of them.

Spec: events.k8s.io/v1.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from webhook.api.backoff import Backoff
from webhook.api.errors import ApiError, NotFoundError
from webhook.api.lease import micro_time
from webhook.api.resources import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from webhook.api.client import Api
    from webhook.api.resources import Resource

__all__ = ("EventRecorder", "Reference", "reference")

_log = logging.getLogger(__name__)

_MAX_NOTE: Final = 1024
_MAX_NAME: Final = 128
_MAX_OBJECT_NAME: Final = 200
_MAX_SERIES: Final = 4096
_SERIES_SECONDS: Final = 360.0
_WRITE_EVERY: Final = 60.0
_SWEEP_SECONDS: Final = 15.0
_ATTEMPTS: Final = 4
_DRAIN_SECONDS: Final = 3.0


class Reference(NamedTuple):
    """The object that an Event is about."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""
    uid: str = ""


class _Key(NamedTuple):
    regarding: Reference
    type: str
    reason: str
    note: str
    action: str


@dataclass(slots=True)
class _Series:
    """An Event that was written, and how often it came."""

    body: dict[str, Any]
    count: int = 1
    written: int = 1
    written_at: float = float("-inf")
    seen_at: float = 0.0
    last: datetime = field(default_factory=lambda: datetime.now(UTC))


def reference(resource: Resource, metadata: Mapping[str, Any] | Any) -> Reference:
    """Refer to an object, by its metadata or a parsed object with the same attributes."""
    if isinstance(metadata, dict):
        parts = [metadata.get(key) or "" for key in ("name", "namespace", "uid")]
    else:
        parts = [getattr(metadata, key, "") or "" for key in ("name", "namespace", "uid")]
    return Reference(resource.api_version, resource.kind, *parts)


class EventRecorder:
    """Writes Events in the background."""

    def __init__(
        self,
        api: Api,
        component: str,
        *,
        instance: str = "",
        capacity: int = 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the recorder; `async with` starts it.

        Args:
            api: Where to.
            component: Who tells, such as `kubetls-signer`.
            instance: Which replica; the component when empty.
            capacity: How many may wait.
            clock: Monotonic seconds.
        """
        self._api = api
        self._component = component[:_MAX_NAME]
        self._instance = (instance or component)[:_MAX_NAME]
        self._queue: asyncio.Queue[_Key] = asyncio.Queue(capacity)
        self._series: OrderedDict[_Key, _Series] = OrderedDict()
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._write_all(), name=f"events {self._component}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._queue.join()
                await self._sweep(is_last=True)
        except TimeoutError:
            self.dropped += self._queue.qsize()
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def event(
        self,
        regarding: Reference,
        type_: Literal["Normal", "Warning"],
        reason: str,
        note: str,
        *,
        action: str = "Issue",
    ) -> None:
        """Tell of something; returns at once.

        Args:
            regarding: The object; see `reference`.
            type_: `Normal` or `Warning`.
            reason: CamelCase, such as `Issued`; stable, people search for it.
            note: One sentence for people.
            action: CamelCase, what was done or tried.
        """
        key = _Key(regarding, type_, reason[:_MAX_NAME], _cut(note), action[:_MAX_NAME])
        try:
            self._queue.put_nowait(key)
        except asyncio.QueueFull:
            self.dropped += 1

    async def _write_all(self) -> None:
        sweep_at = self._clock() + _SWEEP_SECONDS
        while True:
            try:
                async with asyncio.timeout(max(0.0, sweep_at - self._clock())):
                    key = await self._queue.get()
            except TimeoutError:
                await self._sweep()
                sweep_at = self._clock() + _SWEEP_SECONDS
                continue
            try:
                await self._write(key)
            finally:
                self._queue.task_done()

    async def _write(self, key: _Key) -> None:
        known = self._series.get(key)
        now = self._clock()
        if known is not None and now - known.seen_at < _SERIES_SECONDS:
            known.count += 1
            known.seen_at, known.last = now, datetime.now(UTC)
            await self._write_series(key, known)
            return
        body = self._body(key)
        if await self._try(lambda: self._api.create(EVENTS, body)):
            self._series[key] = _Series(body, seen_at=now)
            self._series.move_to_end(key)
        while len(self._series) > _MAX_SERIES:
            self._series.popitem(last=False)

    async def _write_series(self, key: _Key, series: _Series, *, is_last: bool = False) -> None:
        now = self._clock()
        is_due = is_last or now - series.written_at >= _WRITE_EVERY
        if series.count == series.written or not is_due:
            return
        metadata = {name: series.body["metadata"][name] for name in ("name", "namespace")}
        told = {"count": series.count, "lastObservedTime": micro_time(series.last)}
        body = {"metadata": metadata, "series": told}
        series.written, series.written_at = series.count, now
        if not await self._try(lambda: self._api.patch(EVENTS, body)):
            self._series.pop(key, None)

    async def _sweep(self, *, is_last: bool = False) -> None:
        """Write the counts that are due, and forget what has not come again."""
        for key, series in tuple(self._series.items()):
            await self._write_series(key, series, is_last=is_last)
            if self._clock() - series.seen_at >= _SERIES_SECONDS:
                self._series.pop(key, None)

    async def _try(self, write: Callable[[], Any]) -> bool:
        """Write, again after transient trouble; count what cannot be written."""
        backoff = Backoff(initial=0.5, maximum=5.0)
        for _ in range(_ATTEMPTS):
            try:
                await write()
            except NotFoundError:
                return False  # The Event expired, or the namespace went.
            except ApiError as error:
                if not error.is_retryable:
                    _log.debug("an Event was refused: %s", error)
                    break
                await asyncio.sleep(backoff.delay(at_least=error.retry_after))
            else:
                return True
        self.dropped += 1
        return False

    def _body(self, key: _Key) -> dict[str, Any]:
        regarding = key.regarding
        fields = {
            "apiVersion": regarding.api_version,
            "kind": regarding.kind,
            "name": regarding.name,
            "namespace": regarding.namespace,
            "uid": regarding.uid,
        }
        return {
            "metadata": {
                "name": f"{_name_part(regarding.name)}.{secrets.token_hex(8)}",
                "namespace": regarding.namespace or "default",
            },
            "eventTime": micro_time(datetime.now(UTC)),
            "reportingController": self._component,
            "reportingInstance": self._instance,
            "action": key.action,
            "reason": key.reason,
            "regarding": {name: value for name, value in fields.items() if value},
            "note": key.note,
            "type": key.type,
        }


def _name_part(name: str) -> str:
    """What of an object's name an Event's may have: some kinds allow more, such as a colon."""
    return name[:_MAX_OBJECT_NAME].replace(":", ".").rstrip(".-")


def _cut(note: str) -> str:
    """Cut to the API's limit, which counts bytes."""
    return note.encode()[:_MAX_NOTE].decode(errors="ignore")
