# SPDX-License-Identifier: Apache-2.0
"""Which replicas of a group are alive, and which of them a piece of work belongs to.

    async with Membership(api, "kubetls-system", "signer", pod_name) as replicas:
        if replicas.owns(request_uid): ...

Rules:
    1. Each replica renews a Lease of its own; one that did not change for `dead_after` seconds, as
       seen here, is dead, and its share moves to the living: work after work, nothing else moves.
    2. A replica that could not renew its own Lease for that long, counted from *before* its last
       renewal was sent, owns nothing: it stops before another takes over.
    3. For moments two replicas may both own a piece of work, or none: work must bear both.
    4. A replica that ends takes its Lease along; Leases of those that could not are cleared away.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from webhook.api.errors import AlreadyExistsError, ApiError, ConflictError, NotFoundError
from webhook.api.lease import Lease, Sighting, holder, parse_time
from webhook.api.resources import LEASES
from webhook.api.subscribers import Subscribers
from webhook.names import annotation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from webhook.api.client import Api

__all__ = ("Membership", "rendezvous")

_log = logging.getLogger(__name__)

GROUP_LABEL: Final = annotation("replica-group")
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_LEFT_BEHIND_SECONDS: Final = 60.0
_CLEAR_AFTER_SECONDS: Final = 600.0
_FOREVER: Final = 3600.0


class Membership:
    """One replica's view of its group."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        group: str,
        identity: str,
        *,
        renew_every: float = 3.0,
        dead_after: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to join.

        Args:
            api: Where the Leases are.
            namespace: Of the Leases.
            group: Replicas of one group share its work; a label value.
            identity: Of this replica; unique in the group, the pod's name.
            renew_every: Seconds between renewals; each one is followed by a look at the others.
            dead_after: Seconds without a change after which a replica is dead.
            clock: Monotonic seconds.
        """
        self._api = api
        self._namespace = namespace
        self._group = group
        self.identity = identity
        self._renew_every = renew_every
        self._dead_after = dead_after
        self._clock = clock
        name = _lease_name(group, identity)
        self._own = Lease(api, namespace, name, labels={GROUP_LABEL: group})
        self._alive_until = float("-inf")
        self._sightings: dict[str, tuple[str, Sighting]] = {}
        self._told: tuple[str, ...] = ()
        self._subscribers = Subscribers[[]](_tell_failure)
        self._changed = asyncio.Event()
        self._has_joined = asyncio.Event()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._group} {self.identity}: {list(self.live)}>"

    async def __aenter__(self) -> Self:
        self._tasks = (
            asyncio.create_task(self._renew_and_look(), name=f"membership {self._group}"),
            asyncio.create_task(self._tell_changes(), name=f"membership changes {self._group}"),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self._alive_until = float("-inf")
        await self._leave()
        for task in self._tasks:
            if not task.cancelled() and error is None:
                task.result()

    async def joined(self) -> None:
        """Wait until this replica's Lease is there and it has seen the others."""
        await self._has_joined.wait()

    @property
    def has_failed(self) -> bool:
        """Whether it has ended by a mistake of ours: this replica will own nothing any more."""
        return any(task.done() for task in self._tasks)

    @property
    def live(self) -> tuple[str, ...]:
        """Identities that are alive now, this replica's own among them while it may own, sorted."""
        now = self._clock()
        seen = self._sightings.values()
        others = {who for who, sighting in seen if now < sighting.since + self._dead_after}
        others.discard(self.identity)
        own = {self.identity} if now < self._alive_until else set()
        return tuple(sorted(others | own))

    def owner(self, key: str) -> str | None:
        """The live replica to which a piece of work belongs; None when nobody lives."""
        return rendezvous(key, self.live)

    def owns(self, key: str) -> bool:
        """Whether a piece of work belongs to this replica."""
        return self.owner(key) == self.identity

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back, on the event loop, whenever `live` has changed; what it raises is logged.

        Returns:
            A function that ends the subscription.
        """
        return self._subscribers.add(callback)

    async def _renew_and_look(self) -> None:
        while True:
            started = self._clock()
            try:
                async with asyncio.timeout(self._renew_every):
                    await self._renew()
                self._alive_until = started + self._dead_after
                async with asyncio.timeout(self._renew_every):
                    await self._look()
                self._has_joined.set()
            except (ApiError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
                _log.warning("the replica's Lease or its group cannot be reached: %s", reason)
            self._changed.set()
            await asyncio.sleep(max(0.0, started + self._renew_every - self._clock()))

    async def _renew(self) -> None:
        try:
            await self._own.write(self.identity, seconds=self._dead_after)
        except (ConflictError, NotFoundError, AlreadyExistsError):
            await self._own.read()
            await self._own.write(self.identity, seconds=self._dead_after)

    async def _look(self) -> None:
        """See all Leases of the group, and when each of them changed."""
        leases = await self._api.list(
            LEASES, namespace=self._namespace, label_selector=f"{GROUP_LABEL}={self._group}"
        )
        now = self._clock()
        seen: dict[str, tuple[str, Sighting]] = {}
        for lease in leases.items:
            name = lease["metadata"]["name"]
            last = self._sightings.get(name)
            sighting = self._sight(lease, last and last[1], now)
            seen[name] = (holder(lease), sighting)
        self._sightings = seen
        for lease in leases.items:
            await self._clear_away(lease)

    def _sight(self, lease: Mapping[str, Any], last: Sighting | None, now: float) -> Sighting:
        sighting = Sighting.of(lease, last, now)
        if last is None and _was_left_behind(lease):
            # A guess by the wall clock, which a living replica refutes by its next renewal.
            return Sighting(sighting.resource_version, now - self._dead_after)
        return sighting

    async def _clear_away(self, lease: Mapping[str, Any]) -> None:
        """Delete the Lease of a replica that is long dead; one of the living does it."""
        metadata = lease["metadata"]
        _, sighting = self._sightings[metadata["name"]]
        if self._clock() < sighting.since + _CLEAR_AFTER_SECONDS or not self.owns(metadata["uid"]):
            return
        try:
            await self._delete(lease)
        except ApiError as error:
            _log.debug("the Lease of a dead replica stays: %s", error)

    async def _delete(self, lease: Mapping[str, Any]) -> None:
        metadata = lease["metadata"]
        await self._api.delete(
            LEASES,
            metadata["name"],
            namespace=self._namespace,
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
        )

    async def _leave(self) -> None:
        """Take our Lease along, so that the others need not wait."""
        own = self._own.last
        if own is None:
            return
        try:
            async with asyncio.timeout(self._renew_every):
                await self._delete(own)
        except (ApiError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            _log.info("our Lease stays until it expires: %s", reason)

    async def _tell_changes(self) -> None:
        """Tell subscribers when `live` changes, be it by news or by the lack of them."""
        while True:
            live = self.live
            if live != self._told:
                _log.info("live replicas of %s: %s", self._group, ", ".join(live) or "none")
                self._told = live
                self._subscribers.tell()
            try:
                async with asyncio.timeout(self._next_expiry()):
                    await self._changed.wait()
            except TimeoutError:
                continue
            self._changed.clear()

    def _next_expiry(self) -> float:
        """Seconds until the next of those who live now would be dead."""
        now = self._clock()
        ends = [sighting.since + self._dead_after for _, sighting in self._sightings.values()]
        return min((end - now for end in (*ends, self._alive_until) if end > now), default=_FOREVER)


def _lease_name(group: str, identity: str) -> str:
    name = f"{group}-{identity}"
    if _NAME.fullmatch(name):
        return name
    return f"{group}-{hashlib.sha256(identity.encode()).hexdigest()[:32]}"


def rendezvous(key: str, identities: tuple[str, ...]) -> str | None:
    """Choose one of the identities for a key, so that a lost one moves only what it had."""
    return max(identities, key=lambda identity: _score(key, identity), default=None)


def _score(key: str, identity: str) -> bytes:
    return hashlib.blake2b(f"{identity}\0{key}".encode(), digest_size=8).digest()


def _was_left_behind(lease: Mapping[str, Any]) -> bool:
    renewed = parse_time((lease.get("spec") or {}).get("renewTime"))
    return renewed is None or (datetime.now(UTC) - renewed).total_seconds() > _LEFT_BEHIND_SECONDS


def _tell_failure() -> None:
    _log.exception("a subscriber of the membership failed")
