# SPDX-License-Identifier: Apache-2.0
"""The bundles of partners, kept published by the leader: what is configured, and what is fetched.

Rules:
    1. What could not be confirmed for longer than its maximum age is withdrawn: nobody of the
       partner is trusted. So is a bundle that the partner has emptied.
    2. A withdrawn bundle is remembered, so that no older one can take its place.
    3. A partner whose endpoint is new to us keeps what is published of the same trust domain until
       it was asked once.
    4. Nothing here waits for an endpoint.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from kubetls_sdk.exceptions import ConfigurationError
from webhook import metrics
from webhook.api.errors import InvalidError
from webhook.api.events import Reference
from webhook.exceptions import WebhookError
from webhook.names import partner_bundle_name
from webhook.trust.labels import WITHDRAWN
from webhook.trust.partner_fetches import PartnerFetches
from webhook.trust.partner_memory import fetched_at, remember
from webhook.trust.publication import of_partner, of_withdrawn, partner_fallback_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kubetls_sdk.bundle import TrustBundle
    from kubetls_sdk.federation._relation import Relation
    from webhook.api.events import EventRecorder
    from webhook.partner import Partner
    from webhook.trust.partner_fetches import Fetch
    from webhook.trust.publisher import Published, Publisher
    from webhook.trust.zone_keeper import Clock

__all__ = ("PartnerKeeper",)


class PartnerKeeper:
    """Keeps the bundles of partners.

    Args:
        clock: Aware UTC time.
        changed: Called when a fetch has brought something to look at.
        events: Where Events go.
    """

    def __init__(
        self, *, clock: Clock, changed: Callable[[], None], events: EventRecorder | None = None
    ) -> None:
        self._clock = clock
        self._events = events
        self._fetches = PartnerFetches(clock=clock, changed=changed)
        self._told: set[str] = set()

    def retain(self, partners: Iterable[Partner]) -> None:
        """Forget all others at once."""
        for name in self._fetches.retain(partners):
            self._told.discard(name)
            _forget(name)

    async def keep(self, partner: Partner, publisher: Publisher) -> None:
        """Publish what is in force of a partner.

        Raises:
            WebhookError: Its bundle is too old, or there was never one.
            ConfigurationError: The bundle cannot be published.
            ApiError: The API server failed, or does not take the bundle.
        """
        name = partner_bundle_name(partner.name)
        found = await publisher.read(name, partner_fallback_name(partner))
        if partner.bundle is not None:
            await publisher.publish(of_partner(partner, partner.bundle), found)
            return
        fetch = self._fetches.of(partner, found)
        await self._keep_fetched(partner, fetch, found, publisher)

    async def aclose(self) -> None:
        """End all fetches."""
        self.retain(())
        await self._fetches.aclose()

    async def _keep_fetched(
        self, partner: Partner, fetch: Fetch, found: Published | None, publisher: Publisher
    ) -> None:
        relation, now = fetch.relation, self._clock()
        bundle = relation.in_force(now)
        if bundle is None and not fetch.was_tried:
            if found is not None and not _may_stay(partner, found):
                await self._withdraw(partner, relation, found, publisher)
            return
        is_too_old = relation.kept.is_stale(now, relation.partner.max_stale_seconds)
        _tell(partner.name, relation, authorities=len(bundle or ()), is_too_old=is_too_old)
        if bundle:
            self._told.discard(partner.name)
            await self._publish(fetch, partner, found, publisher, bundle=bundle)
            return
        await self._withdraw(partner, relation, found, publisher)
        if is_too_old:
            await self._complain(partner, relation, publisher)
        if bundle is None:
            raise WebhookError(f"there is no bundle of it yet: {relation.kept.error}")

    async def _publish(
        self,
        fetch: Fetch,
        partner: Partner,
        found: Published | None,
        publisher: Publisher,
        *,
        bundle: TrustBundle,
    ) -> None:
        """Publish; what cannot be published must not lengthen the life of the last one."""
        annotations = remember(fetch.relation, is_published=True, found=found)
        try:
            await publisher.publish(of_partner(partner, bundle, annotations), found)
        except (InvalidError, ConfigurationError):
            if found is not None and self._has_aged(partner, found):
                withdrawn = of_withdrawn(partner, "refused", annotations)
                await publisher.publish(withdrawn, found)
            raise

    def _has_aged(self, partner: Partner, found: Published) -> bool:
        try:
            good_at = fetched_at(found)
        except ValueError:
            return True
        if good_at is None or partner.federated is None:
            return True
        age = (self._clock() - good_at).total_seconds()
        return age > partner.federated.max_stale_seconds

    async def _withdraw(
        self, partner: Partner, relation: Relation, found: Published | None, publisher: Publisher
    ) -> None:
        kept = relation.kept
        if found is None and kept.bundle is None and kept.sequence is None:
            return  # There is nothing to take away, and nothing to remember.
        why = "unknown" if kept.bundle is None else "too-old" if kept.bundle else "empty"
        annotations = remember(relation, is_published=False, found=found)
        await publisher.publish(of_withdrawn(partner, why, annotations), found)

    async def _complain(self, partner: Partner, relation: Relation, publisher: Publisher) -> None:
        kept = relation.kept
        message = (
            f"the bundle of {partner.trust_domain} was last confirmed at {kept.good_at}: nobody of"
            f" it is trusted; {kept.error or 'its endpoint was not asked since'}"
        )
        if self._events is not None and partner.name not in self._told:
            self._told.add(partner.name)
            resource, name = publisher.resource, partner_bundle_name(partner.name)
            regarding = Reference(resource.api_version, resource.kind, name)
            await self._events.event(
                regarding, "Warning", "PartnerBundleTooOld", message, action="Withdraw"
            )
        raise WebhookError(message)


def _may_stay(partner: Partner, found: Published) -> bool:
    """Whether what is published is withdrawn, or of the trust domain that the partner has now."""
    return WITHDRAWN in found.annotations or partner.labels.items() <= found.labels.items()


def _tell(name: str, relation: Relation, *, authorities: int, is_too_old: bool) -> None:
    metrics.PARTNER_AUTHORITIES.labels(partner=name).set(authorities)
    metrics.PARTNER_TOO_OLD.labels(partner=name).set(is_too_old)
    if relation.kept.good_at is not None:
        metrics.set_time(metrics.PARTNER_FETCHED_AT.labels(partner=name), relation.kept.good_at)


def _forget(name: str) -> None:
    for gauge in (metrics.PARTNER_AUTHORITIES, metrics.PARTNER_TOO_OLD, metrics.PARTNER_FETCHED_AT):
        with suppress(KeyError):
            gauge.remove(name)
