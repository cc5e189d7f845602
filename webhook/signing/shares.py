# SPDX-License-Identifier: Apache-2.0
"""Which requests this replica answers: its share among the live ones, and what nobody answers.

Rules:
    1. A request belongs to one live replica, by its UID. When replicas come or go, what moved here
       is taken up at once.
    2. A request that is still pending after `overdue_seconds` is everybody's: a replica that lives
       and does not answer delays its share, and never loses it. Two answers are harmless, the
       API server takes the first.
    3. Each sweep goes over all pending requests, so that nothing depends on a single event.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NoReturn, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from webhook.signing.requests import PendingRequest

__all__ = ("Replicas", "Shares")


class Replicas(Protocol):
    """The live replicas."""

    def owns(self, key: str) -> bool:
        """Whether a piece of work belongs to this one."""

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Be told when they change."""


class Shares:
    """Offers this replica its share of the pending requests.

    Args:
        replicas: The live ones.
        requests: All requests, as they are now.
        offer: Called with each request that this replica is to answer, again and again.
        overdue_seconds: When a pending request becomes everybody's.
        sweep_seconds: Between sweeps.
        now: Unix time.
    """

    def __init__(
        self,
        replicas: Replicas,
        requests: Iterable[PendingRequest],
        offer: Callable[[PendingRequest], None],
        *,
        overdue_seconds: float = 20.0,
        sweep_seconds: float = 5.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._replicas = replicas
        self._requests = requests
        self._offer = offer
        self._overdue_seconds = overdue_seconds
        self._sweep_seconds = sweep_seconds
        self._now = now
        self._has_moved = asyncio.Event()

    def has(self, request: PendingRequest) -> bool:
        """Whether this replica is to answer a request now."""
        if request.is_settled:
            return False
        is_overdue = self._now() - request.created > self._overdue_seconds
        return is_overdue or self._replicas.owns(request.uid)

    def sweep(self) -> None:
        """Offer all that this replica is to answer."""
        for request in tuple(self._requests):
            if self.has(request):
                self._offer(request)

    async def run(self) -> NoReturn:
        """Sweep whenever replicas came or went, and every few seconds, until cancelled."""
        unsubscribe = self._replicas.subscribe(self._has_moved.set)
        try:
            while True:
                self._has_moved.clear()
                self.sweep()
                try:
                    async with asyncio.timeout(self._sweep_seconds):
                        await self._has_moved.wait()
                except TimeoutError:
                    continue
        finally:
            unsubscribe()
