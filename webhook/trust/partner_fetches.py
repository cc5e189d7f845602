# SPDX-License-Identifier: Apache-2.0
"""Fetches the bundles of partners with endpoints, in the background of a leader's term.

How often, by whose roots, and what is kept when a fetch fails is the SDK's; nothing of ours is
presented to an endpoint.

Rules:
    1. One task for each partner, with one request at a time, bounded in seconds and bytes. Whatever
       an endpoint does keeps nobody waiting but its own partner.
    2. A partner that is declared no more, or with another endpoint, is at once forgotten: what
       arrives for it later has no effect.

Spec: SPIFFE Federation §5, §6.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.federation._poll import Poll
from kubetls_sdk.federation._relation import Relation
from webhook import metrics
from webhook.trust.partner_memory import recall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kubetls_sdk.federation.partner import Partner as FederatedPartner
    from kubetls_sdk.spiffe_id import TrustDomain
    from webhook.partner import Partner
    from webhook.trust.publisher import Published
    from webhook.trust.zone_keeper import Clock

__all__ = ("Fetch", "PartnerFetches")

_log = logging.getLogger(__name__)
_ENDING_SECONDS = 1.0


class Fetch(NamedTuple):
    """One partner's fetches.

    Attributes:
        relation: What is known of it.
        poll: Asks its endpoint.
        task: Runs that.
    """

    relation: Relation
    poll: Poll
    task: asyncio.Task[None]

    @property
    def was_tried(self) -> bool:
        """Whether the first fetch has ended, well or not."""
        return self.poll.tried.is_set()


class PartnerFetches:
    """The fetches of all partners.

    Args:
        clock: Aware UTC time.
        changed: Called after each fetch.
    """

    def __init__(self, *, clock: Clock, changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._running: dict[str, Fetch] = {}
        self._configured: dict[TrustDomain, TrustBundle] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def retain(self, partners: Iterable[Partner]) -> frozenset[str]:
        """Forget all others, and return their names; the bundles that are configured verify, too.

        Args:
            partners: All that are declared now.
        """
        declared = {partner.name: partner for partner in partners}
        gone = frozenset(
            name
            for name, fetch in self._running.items()
            if name not in declared or not _goes_on(fetch.relation, declared[name].federated)
        )
        for name in gone:
            self._end(self._running.pop(name))
        configured = {each.trust_domain: each.bundle for each in declared.values() if each.bundle}
        if configured != self._configured:
            self._configured = configured
            self._bundles_changed()
        return gone

    def of(self, partner: Partner, found: Published | None) -> Fetch:
        """The fetches of a partner, which begin now if they have not.

        Args:
            partner: One with an endpoint.
            found: What is published of it, with what the last leader knew.
        """
        declared: Any = partner.federated
        running = self._running.get(partner.name)
        if running is None:
            running = self._running[partner.name] = self._begin(declared, found)
        running.relation.partner = declared
        return running

    async def aclose(self) -> None:
        """End all of them; what is under way is cut off after a moment."""
        for fetch in self._running.values():
            self._end(fetch)
        self._running = {}
        if self._leaving:
            _, late = await asyncio.wait(self._leaving, timeout=_ENDING_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _begin(self, partner: FederatedPartner, found: Published | None) -> Fetch:
        relation, endpoint = Relation(partner), partner.endpoint
        recalled = recall(partner, found)
        if recalled is not None:
            relation.kept, relation.bootstrap_tag = recalled
        if isinstance(partner.bundle, TrustBundle):
            relation.begin_with(partner.bundle)
        if endpoint is None:  # `Partner` has refused it
            raise TypeError("expected an endpoint")
        poll = Poll(relation, endpoint, bundle_of=self._latest, put=self._put)
        task = asyncio.create_task(poll.run(), name=f"fetch {partner.trust_domain}")
        return Fetch(relation, poll, task)

    def _end(self, fetch: Fetch) -> None:
        fetch.poll.stop()
        self._leaving.add(fetch.task)
        fetch.task.add_done_callback(self._leaving.discard)

    def _latest(self, trust_domain: TrustDomain) -> TrustBundle | None:
        """The latest bundle of another partner, to verify a server of it by."""
        if trust_domain in self._configured:
            return self._configured[trust_domain]
        relations = (fetch.relation for fetch in self._running.values())
        found = (each for each in relations if each.partner.trust_domain == trust_domain)
        return next((each.kept.bundle for each in found), None)

    def _put(self, relation: Relation, found: TrustBundle | str) -> None:
        try:
            self._take(relation, found)
        except Exception:  # noqa: BLE001 - the outermost loop: it must outlive our bugs
            _log.exception("taking the bundle of %s failed", relation.partner.trust_domain)

    def _take(self, relation: Relation, found: TrustBundle | str) -> None:
        name = next(
            (name for name, each in self._running.items() if each.relation is relation), None
        )
        if name is None:
            return
        if not isinstance(found, str):
            found = replace(found, jwt_authorities={})  # Volumes have certificates only.
        relation.take(found, now=self._clock())
        result = "ok" if relation.kept.error is None else "failed"
        metrics.PARTNER_FETCHES.labels(partner=name, result=result).inc()
        self._bundles_changed()
        self._changed()

    def _bundles_changed(self) -> None:
        for fetch in self._running.values():
            fetch.poll.bundles_changed()


def _goes_on(relation: Relation, declared: FederatedPartner | None) -> bool:
    return declared is not None and relation.goes_on_as(declared)
