# SPDX-License-Identifier: Apache-2.0
"""A local, current picture of all objects of one kind, of which only what is needed is kept.

    async with Informer(api, PODS, Pod.parse) as pods:
        await pods.synced()
        pods.get("shop", "web-0")

Rules:
    1. What `parse` returns is all that is kept; `None` means "not of interest", as if absent.
    2. Subscribers hear of a change only when what `parse` returned has changed, in the order of
       the API server's changes, and never twice of the same.
    3. A broken watch goes on from the last version seen; when that is too old, all is listed anew
       and the difference is told. Nothing that ended in between stays. So it is after ten minutes
       without any event: the API server waits in silence for a version that is newer than its
       own, such as one of before a restored backup.
    4. An object that cannot be parsed counts as absent and is logged: it stops nothing.
    5. Before the first list is complete, `get` and `values` know nothing: wait for `synced`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from webhook.api.backoff import Backoff
from webhook.api.errors import ApiError, GoneError
from webhook.api.subscribers import Subscribers
from webhook.api.watching import BOOKMARK, WatchEvent
from webhook.exceptions import WebhookError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from webhook.api.client import Api
    from webhook.api.resources import Resource

__all__ = ("Informer",)

_log = logging.getLogger(__name__)

T = TypeVar("T")
_Key = tuple[str, str]
Outcome = Literal["list", "watch", "gone", "failure", "unparsable", "subscriber"]

_PAGE_SIZE = 250
_SHORTEST_WATCH = 1.0
_LONGEST_SILENCE = 600.0
_GIVE_UP_VERSION = 6
_UNPARSABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError, WebhookError)


class Informer(Generic[T]):
    """The objects of one kind that match, parsed, kept current by a watch.

    Attributes:
        counts: How often each outcome came: `list`, `watch` (opened), `gone` (410), `failure`,
            `unparsable`, `subscriber` (one raised).
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        parse: Callable[[Mapping[str, Any]], T | None],
        *,
        namespace: str | None = None,
        field_selector: str | None = None,
        label_selector: str | None = None,
        observe: Callable[[str, Outcome], None] | None = None,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the informer.

        Args:
            api: Where from.
            resource: The kind.
            parse: Takes what is needed out of an object; may return None.
            namespace: Only of this one.
            field_selector: As in `list`.
            label_selector: As in `list`.
            observe: Called with the resource's plural and each outcome, for metrics.
            backoff: Waits after failures.
            clock: Monotonic seconds.
        """
        self._api = api
        self._resource = resource
        self._parse = parse
        self._selection: dict[str, Any] = {
            "namespace": namespace,
            "field_selector": field_selector,
            "label_selector": label_selector,
        }
        self._observe = observe
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._objects: dict[_Key, T] = {}
        self._subscribers = Subscribers[[T | None, T | None]](self._tell_failure)
        self._is_synced = asyncio.Event()
        self._version: str | None = None
        self._apart_since: float | None = clock()
        self._heard_at = clock()
        self._task: asyncio.Task[None] | None = None
        self.counts: dict[Outcome, int] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._resource.plural}: {len(self._objects)}>"

    async def __aenter__(self) -> Self:
        name = f"informer {self._resource.plural}"
        self._task = asyncio.create_task(self.run(), name=name)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and error is None:
                task.result()

    async def run(self) -> None:
        """Follow the API server until cancelled; `async with` does so in a task of its own."""
        while True:
            try:
                if self._version is None:
                    await self._list()
                await self._watch(self._version or "")
            except GoneError:
                self._version = None
                self._count("gone")
                await self._pause(None)
            except ApiError as error:
                self._count("failure")
                if error.status and self._backoff.failures >= _GIVE_UP_VERSION:
                    self._version = None
                await self._pause(error)

    async def synced(self) -> None:
        """Wait until the first list is complete; forever while the API server cannot be reached.

        Raises:
            Exception: The informer's task has ended with it, so it will never be.
        """
        waiting = asyncio.ensure_future(self._is_synced.wait())
        tasks = [task for task in (waiting, self._task) if task is not None]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not self._is_synced.is_set() and self._task is not None and self._task.done():
            self._task.result()

    @property
    def is_synced(self) -> bool:
        """Whether the first list is complete."""
        return self._is_synced.is_set()

    @property
    def has_failed(self) -> bool:
        """Whether its task has ended by a mistake of ours: it sees nothing any more."""
        return self._task is not None and self._task.done()

    def is_stale(self, seconds: float) -> bool:
        """Whether no watch has been open for this long, or nothing was listed yet."""
        if not self.is_synced:
            return True
        return self._apart_since is not None and self._clock() - self._apart_since >= seconds

    def get(self, namespace: str | None, name: str) -> T | None:
        """The object, if there is one of interest; the namespace of cluster-scoped ones is None."""
        return self._objects.get((namespace or "", name))

    def values(self) -> tuple[T, ...]:
        """All objects now, in no order."""
        return tuple(self._objects.values())

    def __len__(self) -> int:
        return len(self._objects)

    def subscribe(self, callback: Callable[[T | None, T | None], None]) -> Callable[[], None]:
        """Call back with (before, after) at each change, at once for what is known already.

        The callback runs on the event loop and must not block; what it raises is logged.

        Returns:
            A function that ends the subscription.
        """
        unsubscribe = self._subscribers.add(callback)
        for known in self.values():
            self._subscribers.tell_one(callback, None, known)
        return unsubscribe

    async def _list(self) -> None:
        """Take in all objects, page by page, then drop what is no more there."""
        seen: set[_Key] = set()
        version = ""
        pages = self._api.pages(self._resource, size=_PAGE_SIZE, **self._selection)
        async with aclosing(pages):
            async for page in pages:
                version = page.resource_version
                for item in page.items:
                    seen.add(self._take(item))
        for key in self._objects.keys() - seen:
            self._set(key, None)
        self._version = version
        self._heard_at = self._clock()
        self._count("list")
        self._is_synced.set()

    async def _watch(self, version: str) -> None:
        """Follow one watch to its end."""
        opened: float | None = None
        events = self._api.watch(self._resource, resource_version=version, **self._selection)
        try:
            async with aclosing(events):
                async for event in events:
                    if opened is None:
                        opened, self._apart_since = self._clock(), None
                        self._count("watch")
                        continue
                    self._follow(event)
        finally:
            if opened is not None:
                self._part(opened)
        if opened is None or self._clock() - opened < _SHORTEST_WATCH:
            await self._pause(None)

    def _part(self, opened: float) -> None:
        """Draw the conclusions of a watch that has ended."""
        self._apart_since = self._clock()
        if self._apart_since - opened >= _SHORTEST_WATCH:
            self._backoff.reset()
        if self._apart_since - self._heard_at > _LONGEST_SILENCE:
            self._version = None

    def _follow(self, event: WatchEvent) -> None:
        self._heard_at = self._clock()
        if event.type == "DELETED":
            self._set(_key(event.object), None)
        elif event.type != BOOKMARK:
            self._take(event.object)
        if event.resource_version != self._version:
            self._version = event.resource_version
            self._backoff.reset()

    def _take(self, item: Mapping[str, Any]) -> _Key:
        key = _key(item)
        try:
            parsed = self._parse(item)
        except _UNPARSABLE as error:
            self._count("unparsable")
            kind = type(error).__name__
            _log.warning("%s %s cannot be parsed (%s)", self._resource.kind, "/".join(key), kind)
            parsed = None
        self._set(key, parsed)
        return key

    def _set(self, key: _Key, new: T | None) -> None:
        old = self._objects.get(key)
        if new is None:
            self._objects.pop(key, None)
        else:
            self._objects[key] = new
        if old != new:
            self._subscribers.tell(old, new)

    def _tell_failure(self) -> None:
        self._count("subscriber")
        _log.exception("a subscriber of %s failed", self._resource.plural)

    async def _pause(self, error: ApiError | None) -> None:
        if error is not None:
            log = _log.warning if self._backoff.failures == 0 else _log.debug
            log("following %s failed, trying again: %s", self._resource.plural, error)
        await asyncio.sleep(self._backoff.delay(at_least=error.retry_after if error else None))

    def _count(self, outcome: Outcome) -> None:
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        if self._observe is not None:
            self._observe(self._resource.plural, outcome)


def _key(item: Mapping[str, Any]) -> _Key:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
