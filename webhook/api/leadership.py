# SPDX-License-Identifier: Apache-2.0
"""One leader among replicas, by a Lease, for what must not be done twice at once.

    await Leadership(api, "kubetls-system", "kubetls-leader", identity).run(rotate_authorities)

Rules:
    1. The leader stops `renew_deadline` seconds after it *sent* its last successful renewal;
       another takes over no sooner than `lease_seconds` after it *saw* that renewal. The difference
       is the time that the callback has to end.
    2. `is_leader` is computed from the clock: it is right even after the process was stopped.
    3. A Lease held by another is taken only when it did not change, as seen here, for its whole
       duration, and by compare-and-swap.
    4. It is given back when the callback has ended and the block is left, not before.

Spec: client-go `tools/leaderelection`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Any, Final

from kubetls_sdk.exceptions import ConfigurationError
from webhook.api.errors import AlreadyExistsError, ApiError, ConflictError, NotFoundError
from webhook.api.lease import Lease, Sighting, holder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType
    from typing import Self

    from webhook.api.client import Api

__all__ = ("Leadership",)

_log = logging.getLogger(__name__)

_MAX_FOREIGN_SECONDS: Final = 120.0
_JITTER: Final = 0.2
_SOON: Final = 0.2


class Leadership:
    """One candidate."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        identity: str,
        *,
        lease_seconds: float = 15.0,
        renew_deadline: float = 10.0,
        retry_every: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a candidate.

        Args:
            api: Where the Lease is.
            namespace: Of the Lease.
            name: Of the Lease.
            identity: Of this candidate; unique to this process, not only to its pod.
            lease_seconds: How long others wait after the last renewal that they saw.
            renew_deadline: How long after its last renewal the leader goes on.
            retry_every: Seconds between renewals, and between looks of those who wait.
            clock: Monotonic seconds.

        Raises:
            ConfigurationError: The times are not in order.
        """
        if not 0 < retry_every < renew_deadline < lease_seconds or not identity:
            raise ConfigurationError("expected an identity and retry < renew deadline < lease")
        self._name = name
        self.identity = identity
        self._lease_seconds = lease_seconds
        self._renew_deadline = renew_deadline
        self._retry_every = retry_every
        self._clock = clock
        self._lease = Lease(api, namespace, name)
        self._sighting: Sighting | None = None
        self._is_held = False
        self._held_until = float("-inf")
        self._gained = asyncio.Event()
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name} {self.identity}: {self.is_leader}>"

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._stand(), name=f"leadership {self._name}")
        self._task.add_done_callback(self._wake)
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
        task.cancel()
        await asyncio.wait([task])
        await self._give_back()
        if not task.cancelled() and error is None:
            task.result()

    @property
    def is_leader(self) -> bool:
        """Whether this candidate leads at this moment."""
        return self._is_held and self._clock() < self._held_until

    @property
    def leader(self) -> str:
        """Who leads, as last seen; empty when nobody does or it is not known."""
        return holder(self._lease.last or {})

    async def elected(self) -> None:
        """Wait until this candidate leads."""
        while not self.is_leader:
            if self._task is not None and self._task.done():
                self._task.result()
            await self._gained.wait()
            await asyncio.sleep(0)  # Time may be over before the loop has drawn the conclusion.

    async def run(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Stand for election and run the callback while leading, again after each loss.

        Returns when the callback returns; what it raises is raised. At the loss of the lead it is
        cancelled, and nothing else is done until it has ended. Inside `async with` the election of
        that block is used.
        """
        if self._task is not None:
            await self._lead(callback)
            return
        async with self:
            await self._lead(callback)

    async def _lead(self, callback: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self.elected()
            work = asyncio.ensure_future(callback())
            end = asyncio.ensure_future(self._lost.wait())
            watched = {work, end} | ({self._task} if self._task else set())
            try:
                await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            finally:
                has_ended = work.done()
                for task in (work, end):
                    task.cancel()
                await asyncio.wait([work, end])
            if not work.cancelled():
                work.result()
            if has_ended:
                return
            if self._task is not None and self._task.done():
                self._task.result()

    async def _stand(self) -> None:
        """Try to get or keep the Lease, for ever."""
        while True:
            started = self._clock()
            limit = self._held_until - started if self._is_held else self._renew_deadline
            try:
                async with asyncio.timeout(max(0.0, limit)):
                    is_ours = await self._attempt()
            except (ApiError, TimeoutError) as error:
                is_ours = None
                reason = str(error) or type(error).__name__
                _log.warning("the Lease %s cannot be renewed: %s", self._name, reason)
            self._settle(is_ours, started)
            await asyncio.sleep(self._pause())

    def _wake(self, _: asyncio.Task[None]) -> None:
        """Let nobody wait for an election that has ended."""
        self._held_until = float("-inf")
        self._gained.set()
        self._lost.set()

    def _settle(self, is_ours: bool | None, started: float) -> None:
        """Draw the conclusion of an attempt; None: it is not known, what was goes on for a time."""
        if is_ours:
            self._held_until = started + self._renew_deadline
            if not self._is_held:
                self._is_held = True
                self._lost.clear()
                self._gained.set()
                _log.info("%s leads %s", self.identity, self._name)
        elif self._is_held and (is_ours is False or self._clock() >= self._held_until):
            self._is_held = False
            self._gained.clear()
            self._lost.set()
            _log.warning("%s does not lead %s any more", self.identity, self._name)

    def _pause(self) -> float:
        if self._is_held and self._lease.last is None:
            return _SOON  # Another wrote it: whether it is still ours must be known at once.
        if self._is_held:
            return max(0.0, min(self._retry_every, self._held_until - self._clock()))
        return self._retry_every * (1 + _JITTER * random.random())  # noqa: S311 - no secret

    async def _attempt(self) -> bool | None:
        """Take or renew the Lease where that is allowed; None when another writer came between."""
        lease = self._lease
        try:
            if not self._is_held or lease.last is None:
                await lease.read()
            if lease.last is not None and not self._may_take(lease.last):
                return False
            await lease.write(self.identity, seconds=self._lease_seconds)
        except (ConflictError, AlreadyExistsError, NotFoundError):
            lease.last = None
            return None
        return True

    def _may_take(self, lease: Mapping[str, Any]) -> bool:
        now = self._clock()
        self._sighting = Sighting.of(lease, self._sighting, now)
        if holder(lease) in {"", self.identity}:
            return True
        theirs = (lease.get("spec") or {}).get("leaseDurationSeconds") or 0
        lasts = max(self._lease_seconds, min(float(theirs), _MAX_FOREIGN_SECONDS))
        return now >= self._sighting.since + lasts

    async def _give_back(self) -> None:
        """Let another take over at once."""
        was_held, self._is_held = self._is_held, False
        self._gained.clear()
        self._lost.set()
        if not was_held or self._lease.last is None:
            return
        try:
            async with asyncio.timeout(self._retry_every):
                await self._lease.write("", seconds=1)
        except (ApiError, TimeoutError) as error:
            _log.info("the Lease %s stays until it expires: %s", self._name, error)
