# SPDX-License-Identifier: Apache-2.0
"""The two threads of a federated source: one fetches and looks at the clock, one at the files.

Rules:
    1. Each relation has one task, which ends with it.
    2. Once a second the age of what is in force is looked at, whatever else happens.
    3. Both threads outlive our bugs, and end with `close`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, NamedTuple

from kubetls_sdk._watch import changes
from kubetls_sdk.exceptions import CredentialError
from kubetls_sdk.federation._poll import Poll

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubetls_sdk.bundle import TrustBundle
    from kubetls_sdk.federation._registry import Registry
    from kubetls_sdk.federation._relation import Relation
    from kubetls_sdk.source import Snapshot

__all__ = ("FetchLoop",)

_log = logging.getLogger("kubetls_sdk.federation")
_TICK_SECONDS = 1.0
_ENDING_SECONDS = 1.0
_JOIN_SECONDS = 5.0


class _Running(NamedTuple):
    poll: Poll
    task: asyncio.Task[None]


class FetchLoop:
    """The threads.

    Args:
        registry: Whose relations are followed.
        update: Puts what the registry says in force.
        poll_seconds: Look at the files at least this often.
    """

    def __init__(
        self, registry: Registry, update: Callable[[], Snapshot], *, poll_seconds: float
    ) -> None:
        self._registry = registry
        self._update = update
        self._poll_seconds = poll_seconds
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: dict[Relation, _Running] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._ending: asyncio.Event | None = None

    @property
    def is_started(self) -> bool:
        """Whether it was ever started or closed."""
        return bool(self._threads) or self._stop.is_set()

    @property
    def is_stopped(self) -> bool:
        """Whether it was told to end."""
        return self._stop.is_set()

    def start(self, wait_seconds: float) -> None:
        """Start both threads, and wait at most so long until each endpoint was asked once."""
        for target, name in ((self._fetch, "fetch"), (self._follow, "files")):
            thread = threading.Thread(target=target, name=f"kubetls-federation-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._ready.wait(wait_seconds)

    def reconcile(self) -> None:
        """Start and end tasks, so that each relation has one; from any thread."""
        self._call(self._reconcile)

    def refresh(self) -> None:
        """Look at the files, and fetch from all endpoints, soon."""
        self._registry.look()
        self._put_in_force()
        self._call(self._refresh)

    def stop(self) -> None:
        """Tell both threads to end, and who waits for a start; waits for nothing."""
        self._stop.set()
        self._ready.set()
        self._call(lambda: self._ending.set() if self._ending is not None else None)

    def close(self) -> None:
        """End both threads; may be called twice."""
        self.stop()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(_JOIN_SECONDS)

    def disown(self) -> None:
        """In a forked child: the threads are not here."""
        self._stop.set()
        self._threads = []
        self._loop = None

    def _call(self, function: Callable[[], None]) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it ended meanwhile
                loop.call_soon_threadsafe(function)

    def _follow(self) -> None:
        while not self._stop.is_set():
            directories = self._registry.directories
            if not directories:
                self._stop.wait(_TICK_SECONDS / 2)
                continue
            for _ in changes(directories, stop=self._stop, poll_seconds=self._poll_seconds):
                self._look()
                if self._registry.directories != directories:
                    break

    def _look(self) -> None:
        try:
            if not self._stop.is_set():
                self._registry.look()
                self._put_in_force()
                self.reconcile()
        except Exception:  # noqa: BLE001 - the outermost loop: it must outlive our bugs
            _log.exception("looking at the declared partners failed")

    def _put_in_force(self) -> None:
        with contextlib.suppress(CredentialError):  # the inner source was closed before us
            self._update()

    def _fetch(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception:  # noqa: BLE001 - the outermost frame of a thread
            _log.exception("fetching the bundles of partners ended")

    async def _main(self) -> None:
        self._ending = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._reconcile()
        waiting = asyncio.ensure_future(self._wait_for_first())
        while not (self._stop.is_set() or self._ending.is_set()):
            self._tick()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await self._ending.wait()
        waiting.cancel()
        await self._end()

    async def _end(self) -> None:
        """Let the fetches that are under way end; cut off those that take long."""
        for each in self._running.values():
            each.poll.stop()
            self._leaving.add(each.task)
        if self._leaving:
            _, late = await asyncio.wait(self._leaving, timeout=_ENDING_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _wait_for_first(self) -> None:
        for each in list(self._running.values()):
            await each.poll.tried.wait()
        self._ready.set()

    def _tick(self) -> None:
        try:
            self._put_in_force()
            self._registry.show()
        except Exception:  # noqa: BLE001 - the outermost loop: it must outlive our bugs
            _log.exception("looking at the age of bundles failed")

    def _reconcile(self) -> None:
        relations = dict.fromkeys(self._registry.relations)
        for relation in [each for each in self._running if each not in relations]:
            ended = self._running.pop(relation)
            ended.poll.stop()
            self._leaving.add(ended.task)
            ended.task.add_done_callback(self._leaving.discard)
        for relation in relations:
            endpoint = relation.partner.endpoint
            if endpoint is not None and relation not in self._running:
                poll = Poll(relation, endpoint, bundle_of=self._registry.latest, put=self._put)
                self._running[relation] = _Running(poll, asyncio.ensure_future(poll.run()))
        self._bundles_changed()

    def _refresh(self) -> None:
        self._reconcile()
        for each in self._running.values():
            each.poll.wake()

    def _bundles_changed(self) -> None:
        for each in self._running.values():
            each.poll.bundles_changed()

    def _put(self, relation: Relation, found: TrustBundle | str) -> None:
        try:
            self._registry.put(relation, found)
            self._put_in_force()
            self._bundles_changed()
        except Exception:  # noqa: BLE001 - the outermost loop: it must outlive our bugs
            _log.exception("taking the bundle of %s failed", relation.partner.trust_domain)
