# SPDX-License-Identifier: Apache-2.0
"""One zone's pool and bundle, kept by the leader: each call does what is due, step by step.

Rules:
    1. Each step is one write that names the version it was decided on; after each, all is read
       anew, the bundle before the pool. That reading is the proof of publication.
    2. A conflict is no failure: somebody else took a step, so look again.
    3. A pool is made only where nothing was ever published. Where a bundle is there and its pool
       has gone, pods trust a root whose key is lost: a person decides (`ca create`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from webhook.api.errors import AlreadyExistsError, ConflictError
from webhook.names import bundle_name
from webhook.trust.ca_pool import CaPool, new_entry_id
from webhook.trust.pool_entry import Origin, PoolError
from webhook.trust.publication import fallback_name, of_zone
from webhook.trust.root_certificate import new_root
from webhook.trust.rotation_step import View, advance

if TYPE_CHECKING:
    from kubetls_sdk.bundle import TrustBundle
    from webhook.config import PlatformConfig, Zone
    from webhook.partner import Partner
    from webhook.trust.ca_store import CaStore, StoredPool
    from webhook.trust.publication import Publication
    from webhook.trust.publisher import Published, Publisher

__all__ = ("Clock", "ZoneKeeper", "longest_lifetime", "now_utc")

Clock = Callable[[], datetime]
_MAX_ROUNDS: Final = 50
"""A whole rotation takes about ten; more is a fight over an object."""


def now_utc() -> datetime:
    """The time, in the whole seconds that pools and certificates have."""
    return datetime.now(UTC).replace(microsecond=0)


class ZoneKeeper:
    """Keeps the pools and bundles of zones.

    Args:
        store: Where the pools are.
        publisher: Where the bundles are.
        clock: Aware UTC time in whole seconds.
        partner_that_is: The partner that a zone is declared as, if any.
    """

    def __init__(
        self,
        store: CaStore,
        publisher: Publisher,
        *,
        clock: Clock = now_utc,
        partner_that_is: Callable[[Zone], Partner | None] = lambda _zone: None,
    ) -> None:
        self._partner_that_is = partner_that_is
        self._store = store
        self._publisher = publisher
        self._clock = clock

    async def keep(
        self, zone: Zone, *, longest_lifetime: timedelta, replaced: frozenset[str] = frozenset()
    ) -> CaPool | None:
        """Do what is due in a zone.

        Args:
            zone: Which.
            longest_lifetime: The longest that any leaf of it may have.
            replaced: Ids of retired authorities of which no leaf is in use any more.

        Returns:
            The pool, when nothing is due any more; None where an external signer signs.

        Raises:
            PoolError: The pool is lost, cannot be read, or is of another trust domain.
            ConfigurationError: The bundle cannot be published.
            ApiError: The API server failed.
        """
        for _ in range(_MAX_ROUNDS):
            try:
                pool, is_settled = await self._round(zone, longest_lifetime, replaced)
            except (ConflictError, AlreadyExistsError):
                continue
            if is_settled:
                return pool
        raise PoolError(f"zone {zone.name!r}: its pool or bundle is changed by others all the time")

    async def _round(
        self, zone: Zone, longest: timedelta, replaced: frozenset[str]
    ) -> tuple[CaPool | None, bool]:
        name = bundle_name(zone.signer_name, zone.trust_domain)
        found = await self._publisher.read(name, fallback_name(zone))
        if zone.external_signer is not None:
            return None, not await self._publish_external(zone, found)
        stored = await self._store.read(zone.name)
        if stored is None:
            await self._begin(zone, found)
            return None, False
        return stored.pool, await self._is_settled(zone, stored, found, (longest, replaced))

    async def _is_settled(
        self,
        zone: Zone,
        stored: StoredPool,
        found: Published | None,
        limits: tuple[timedelta, frozenset[str]],
    ) -> bool:
        publication = self._publication(zone, stored.pool.bundle)
        view = View(
            now=self._clock(),
            propagation=zone.propagation,
            longest_lifetime=limits[0],
            published=frozenset() if found is None else found.anchors(zone.trust_domain),
            replaced=limits[1],
        )
        after = advance(stored.pool, view)
        if after != stored.pool:
            await self._store.replace(stored, after)
            return False
        return not await self._publisher.publish(publication, found)

    async def _publish_external(self, zone: Zone, found: Published | None) -> bool:
        if zone.bundle is None:
            raise PoolError(f"expected the authorities of zone {zone.name!r} in the configuration")
        return await self._publisher.publish(self._publication(zone, zone.bundle), found)

    def _publication(self, zone: Zone, bundle: TrustBundle) -> Publication:
        return of_zone(zone, bundle, partner=self._partner_that_is(zone))

    async def _begin(self, zone: Zone, found: Published | None) -> None:
        if found is not None:
            raise PoolError(
                f"zone {zone.name!r} has a published bundle and no CA pool: its key is lost;"
                " make a new one with `ca create`"
            )
        now, entry_id = self._clock(), new_entry_id()
        root = new_root(zone.trust_domain, entry_id, now=now)
        pool = CaPool.create(
            zone.trust_domain, root, origin=Origin.CREATED, entry_id=entry_id, now=now
        )
        await self._store.create(zone.name, pool)


def longest_lifetime(config: PlatformConfig, zone: str) -> timedelta:
    """The longest lifetime that any namespace's pods may have in a zone."""
    lifetimes = (rule.lifetime.maximum for rule in config.rules if zone in rule.zones)
    return max(lifetimes, default=timedelta(0))
