# SPDX-License-Identifier: Apache-2.0
"""What an operator may order about a zone's CA pool: `python -m webhook ca …`.

    orders = CaOrders(api, config, "default")
    await orders.rotate()
    print((await orders.status()).to_text(now_utc()))

Rules:
    1. An order is one compare-and-swap of the pool; the leader carries it out (`zone_keeper`), so
       whoever gave it may go home.
    2. Giving an order twice is giving it once.
    3. What breaks connections needs `FORCE_WORD`, spelled out.
    4. An imported authority must be able to sign for the zone: it is tried before it is stored.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from kubetls_sdk.exceptions import ConfigurationError
from webhook.issuance.authority import Authority
from webhook.names import SYSTEM_NAMESPACE
from webhook.trust import pool_transition as to
from webhook.trust.adoption import adopted_entries
from webhook.trust.authority_trial import check_usable
from webhook.trust.ca_pool import CaPool, Rotation, new_entry_id
from webhook.trust.ca_status import PoolStatus
from webhook.trust.ca_store import CaStore
from webhook.trust.pool_entry import Origin, PoolError, State
from webhook.trust.publisher import find_publisher
from webhook.trust.root_certificate import DEFAULT_VALIDITY, check_root_terms, new_root
from webhook.trust.zone_keeper import Clock, longest_lifetime, now_utc

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from webhook.api.client import Api
    from webhook.config import PlatformConfig, Zone
    from webhook.trust.root_certificate import RootKeyType

__all__ = ("FORCE_WORD", "CaOrders")

FORCE_WORD: Final = "pods-may-fail-to-connect"
"""What an operator must spell out to shorten a wait that keeps connections whole."""


class CaOrders:
    """Orders about one zone.

    Args:
        api: The API server.
        config: The platform's.
        zone: Name of the zone.
        namespace: Where the pool's Secret is.
        clock: Aware UTC time in whole seconds.

    Raises:
        ConfigurationError: No such zone, or it has an external signer.
    """

    def __init__(
        self,
        api: Api,
        config: PlatformConfig,
        zone: str,
        *,
        namespace: str = SYSTEM_NAMESPACE,
        clock: Clock = now_utc,
    ) -> None:
        self._api = api
        self._zone = _own_zone(config, zone)
        self._cluster_domain = config.cluster_domain
        self._longest_lifetime = longest_lifetime(config, zone)
        self._store = CaStore(api, namespace=namespace)
        self._namespace = namespace
        self._clock = clock

    async def status(self) -> PoolStatus:
        """Tell how the pool stands.

        Raises:
            PoolError: There is none, or it cannot be read.
            ApiError: The API server failed.
        """
        stored = await self._store.read(self._zone.name)
        if stored is None:
            raise PoolError(f"zone {self._zone.name!r} has no CA pool yet")
        return PoolStatus(self._zone, stored.pool)

    async def create(
        self,
        *,
        key_type: RootKeyType = "p256",
        validity: timedelta = DEFAULT_VALIDITY,
        force_propagation: str | None = None,
    ) -> PoolStatus:
        """Make the pool, with a new root.

        Where a bundle of the zone is published and its pool is lost, what pods trust stays
        published until no leaf under it can be valid, and the new root waits for its propagation.

        Raises:
            ConfigurationError: No root is like that, or another word.
            PoolError: There is a pool.
            ApiError: The API server failed.
        """
        is_forced, entry_id = _is_forced(force_propagation), new_entry_id()
        domain, now = self._zone.trust_domain, self._clock()
        root = new_root(domain, entry_id, now=now, key_type=key_type, validity=validity)
        return await self._begin(root, Origin.CREATED, entry_id, is_forced=is_forced)

    async def import_authority(
        self, certificate_pem: bytes, key_pem: bytes, anchor_pem: bytes | None = None
    ) -> PoolStatus:
        """Take in an authority from PEM: the first one, or the one that will sign next.

        Args:
            certificate_pem: The signing certificate, then what is between it and the anchor.
            key_pem: Its key, unencrypted.
            anchor_pem: What pods will trust; may be left out for a self-signed one.

        Raises:
            CredentialError: The texts are no authority.
            PoolError: It cannot sign for this zone, or another one is next already.
            ApiError: The API server failed.
        """
        authority = Authority.from_pem(certificate_pem, key_pem, anchor_pem)
        now, entry_id = self._clock(), new_entry_id()
        check_usable(authority, self._zone, now=now, cluster_domain=self._cluster_domain)
        if await self._store.read(self._zone.name) is None:
            return await self._begin(authority, Origin.IMPORTED, entry_id)
        return await self._change(
            lambda pool: to.add_next(
                pool, authority, origin=Origin.IMPORTED, entry_id=entry_id, now=now
            )
        )

    async def rotate(
        self,
        *,
        force_propagation: str | None = None,
        key_type: RootKeyType | None = None,
        validity: timedelta | None = None,
        own_root: bool = False,
    ) -> PoolStatus:
        """Order the replacement of the authority that signs, by the next one or a new root.

        Args:
            force_propagation: `FORCE_WORD` to let it sign as soon as it is published.
            key_type: Of a new root; None: as before.
            validity: Of a new root; None: as before.
            own_root: Let a new root of ours succeed an imported authority.

        Raises:
            ConfigurationError: No root is like that, or another word.
            PoolError: No pool, or the successor of an imported authority is to be imported first.
            ApiError: The API server failed.
        """
        check_root_terms(key_type, validity)
        is_forced = _is_forced(force_propagation)
        wanted = Rotation(self._clock(), is_forced=is_forced, key_type=key_type, validity=validity)

        def ordered(pool: CaPool) -> CaPool:
            if pool.rotation is not None and pool.is_rotating:
                return _forced(pool) if is_forced else pool
            _check_successor(pool, own_root=own_root)
            return replace(pool, rotation=wanted)

        return await self._change(ordered)

    async def abort(self) -> PoolStatus:
        """Give up a rotation whose successor does not sign yet; it leaves the bundle.

        Raises:
            PoolError: There is none, or no other authority signs.
            ApiError: The API server failed.
        """
        return await self._change(to.abort)

    async def take_back(self) -> PoolStatus:
        """Let the authority that was retired last sign again, while pods trust both.

        Raises:
            PoolError: None was retired that has its key, or another one is next.
            ApiError: The API server failed.
        """
        now, longest = self._clock(), self._longest_lifetime
        return await self._change(
            lambda pool: to.take_back(pool, now=now, longest_lifetime=longest)
        )

    async def withdraw(self, entry_id: str, *, force: str | None = None) -> PoolStatus:
        """Take a retired authority out of the bundle before its time, as after a theft of its key.

        Args:
            entry_id: Which, as `status` shows it.
            force: `FORCE_WORD` where leaves under it may be valid.

        Raises:
            PoolError: It is not retired; or leaves under it may be valid, and it is not forced.
            ConfigurationError: Another word.
            ApiError: The API server failed.
        """
        is_forced, now = _is_forced(force), self._clock()

        def ordered(pool: CaPool) -> CaPool:
            if pool.entry(entry_id).state is State.WITHDRAWN:
                return pool
            return to.withdraw(pool, entry_id, now=now, is_forced=is_forced)

        return await self._change(ordered)

    async def _change(self, step: Callable[[CaPool], CaPool]) -> PoolStatus:
        return PoolStatus(self._zone, await self._store.change(self._zone.name, step))

    async def _begin(
        self, authority: Authority, origin: Origin, entry_id: str, *, is_forced: bool = False
    ) -> PoolStatus:
        if await self._store.read(self._zone.name) is not None:
            raise PoolError(f"zone {self._zone.name!r} has a CA pool: rotate it")
        publisher, now = await find_publisher(self._api, namespace=self._namespace), self._clock()
        pool = CaPool.create(
            self._zone.trust_domain,
            authority,
            origin=origin,
            entry_id=entry_id,
            now=now,
            adopted=await adopted_entries(publisher, self._zone, authority, now=now),
        )
        if is_forced and pool.rotation is not None:
            pool = _forced(pool)
        return PoolStatus(self._zone, (await self._store.create(self._zone.name, pool)).pool)


def _own_zone(config: PlatformConfig, name: str) -> Zone:
    zone = config.zones.get(name)
    if zone is None:
        known = ", ".join(sorted(config.zones))
        raise ConfigurationError(f"expected a zone of {known}, got {name!r}")
    if zone.external_signer is not None:
        raise ConfigurationError(f"zone {name!r} has an external signer, and no CA pool of ours")
    return zone


def _is_forced(word: str | None) -> bool:
    if word not in (None, FORCE_WORD):
        raise ConfigurationError(f"expected the word {FORCE_WORD!r} to force it, got {word!r}")
    return word is not None


def _forced(pool: CaPool) -> CaPool:
    if pool.rotation is None:
        return pool
    return replace(pool, rotation=replace(pool.rotation, is_forced=True))


def _check_successor(pool: CaPool, *, own_root: bool) -> None:
    active = pool.active_entry
    is_imported = active is not None and active.origin is Origin.IMPORTED
    if is_imported and pool.next_entry is None and not own_root:
        raise PoolError(
            "the authority that signs was imported: import its successor first,"
            " or ask for a root of our own"
        )
