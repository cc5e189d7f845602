# SPDX-License-Identifier: Apache-2.0
"""What is still to be done, in a fair order, with a bounded number under way.

Rules:
    1. A key is in the list once, however often it is added, until its work is done.
    2. New requests and renewals take turns: a burst of either never starves the other. New ones go
       by arrival, renewals by deadline.
    3. Within a lane, owners take turns: however many keys one has on the list, the first of
       another waits for no more than one of them.
    4. Nothing is given up: failed work comes back with back-off and full jitter until it is done
       or forgotten.
    5. Everything runs on one event loop; the list has no lock.

Spec: P. Goyal et al., "Start-time Fair Queuing" (1996), with a cost of one for each key.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Generic, TypeVar

from webhook.api.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ("Again", "Lane", "Worklist")

_log = logging.getLogger(__name__)

K = TypeVar("K")
_Turn = tuple[int, float, int, K, str]
"""Round, order within it, ticket, key, owner."""


class Lane(IntEnum):
    """Who waits: a pod that cannot start, or one whose certificate will expire."""

    NEW = 0
    RENEWAL = 1


class Again(Exception):  # noqa: N818 - a request to the list, not a fault
    """The work could not be done yet.

    Attributes:
        at_least: Seconds before the next attempt, beside the back-off.
    """

    def __init__(self, message: str, *, at_least: float = 0.0) -> None:
        super().__init__(message)
        self.at_least = at_least


@dataclass(slots=True)
class _Entry:
    lane: Lane
    deadline: float
    owner: str
    backoff: Backoff
    is_under_way: bool = False
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)
    ticket: int = 0
    queued_at: float = 0.0


class Worklist(Generic[K]):
    """Keys to work on.

    Args:
        work: Does the work of one key, given how often it was tried in vain; raises `Again` when
            it cannot be done yet. Any other exception is logged and counts as `Again`.
        limit: How many run at once.
        backoff: Makes the waits between attempts of one key.
        waited: Told how many seconds a key waited for its turn.
    """

    def __init__(
        self,
        work: Callable[[K, int], Awaitable[None]],
        *,
        limit: int = 32,
        backoff: Callable[[], Backoff] = lambda: Backoff(initial=0.25, maximum=30.0),
        waited: Callable[[float], None] | None = None,
    ) -> None:
        self._work = work
        self._waited = waited
        self._limit = limit
        self._backoff = backoff
        self._entries: dict[K, _Entry] = {}
        self._lanes: dict[Lane, list[_Turn[K]]] = {lane: [] for lane in Lane}
        self._rounds = dict.fromkeys(Lane, 0)
        self._following: dict[tuple[Lane, str], int] = {}
        self._tickets = itertools.count(1)
        self._turn = Lane.NEW
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def __len__(self) -> int:
        """How many keys are not done."""
        return len(self._entries)

    @property
    def waiting(self) -> int:
        """How many keys are not under way: they wait for their turn or for the next attempt."""
        return len(self._entries) - len(self._tasks)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def add(
        self, key: K, *, lane: Lane = Lane.NEW, deadline: float | None = None, owner: str = ""
    ) -> None:
        """Put a key on the list, unless it is there.

        Args:
            key: What to work on.
            lane: Whose turn it takes.
            deadline: Unix time that orders renewals; None: as urgent as if it were now.
            owner: Who takes turns with others; empty: keys of nobody are in nobody's way.
        """
        if key not in self._entries:
            at = time.time() if deadline is None else deadline
            entry = _Entry(lane, at, owner, self._backoff())
            self._entries[key] = entry
            self._enqueue(key, entry)

    def hurry(self, key: K) -> None:
        """End a key's back-off now: what it waited for has come."""
        entry = self._entries.get(key)
        if entry is not None and entry.timer is not None:
            entry.timer.cancel()
            self._enqueue(key, entry)

    def hurry_all(self) -> None:
        """End all back-offs: something that many may wait for has come."""
        for key in tuple(self._entries):
            self.hurry(key)

    def forget(self, key: K) -> None:
        """Drop a key; an attempt that is under way ends by itself."""
        entry = self._entries.get(key)
        if entry is None or entry.is_under_way:
            return
        if entry.timer is not None:
            entry.timer.cancel()
        del self._entries[key]

    async def close(self, *, within: float) -> None:
        """Start nothing more, and let what is under way finish.

        Args:
            within: Seconds; what is not finished then is cancelled.
        """
        self._is_closed = True
        for entry in self._entries.values():
            if entry.timer is not None:
                entry.timer.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _enqueue(self, key: K, entry: _Entry) -> None:
        entry.timer = None
        entry.queued_at = time.monotonic()
        entry.ticket = next(self._tickets)
        order = entry.deadline if entry.lane is Lane.RENEWAL else float(entry.ticket)
        turn = (self._round_of(entry), order, entry.ticket, key, entry.owner)
        heapq.heappush(self._lanes[entry.lane], turn)
        self._start_some()

    def _round_of(self, entry: _Entry) -> int:
        """The round in which a key has its turn: that of now, or the one after its owner's last."""
        now = self._rounds[entry.lane]
        if not entry.owner:
            return now
        owner = (entry.lane, entry.owner)
        found = max(now, self._following.get(owner, 0))
        self._following[owner] = found + 1
        return found

    def _begin_round(self, lane: Lane, number: int, owner: str) -> None:
        self._rounds[lane] = max(self._rounds[lane], number)
        if self._following.get((lane, owner)) == number + 1:  # It has nothing more in the queue.
            del self._following[lane, owner]

    def _start_some(self) -> None:
        while not self._is_closed and len(self._tasks) < self._limit:
            key = self._next()
            if key is None:
                return
            task = asyncio.get_running_loop().create_task(self._attempt(key))
            self._tasks.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._start_some()

    def _next(self) -> K | None:
        for lane in (self._turn, Lane(1 - self._turn)):
            queue = self._lanes[lane]
            while queue:
                number, _, ticket, key, owner = heapq.heappop(queue)
                self._begin_round(lane, number, owner)
                entry = self._entries.get(key)
                if entry is not None and entry.ticket == ticket:
                    entry.is_under_way = True
                    if self._waited is not None:
                        self._waited(time.monotonic() - entry.queued_at)
                    self._turn = Lane(1 - lane)
                    return key
        return None

    async def _attempt(self, key: K) -> None:
        entry = self._entries[key]
        try:
            await self._work(key, entry.backoff.failures)
        except Again as again:
            self._postpone(key, entry, again.at_least)
        except Exception:  # noqa: BLE001 - one key's fault must not stop the list
            _log.exception("unexpected failure, to be tried again: %s", key)
            self._postpone(key, entry, 0.0)
        else:
            del self._entries[key]

    def _postpone(self, key: K, entry: _Entry, at_least: float) -> None:
        entry.is_under_way = False
        if self._is_closed:
            return
        delay = entry.backoff.delay(at_least=at_least)
        entry.timer = asyncio.get_running_loop().call_later(delay, self._enqueue, key, entry)
