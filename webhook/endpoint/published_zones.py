# SPDX-License-Identifier: Apache-2.0
"""Everything that the endpoint serves: the bundles of the configured zones, by their paths.

Rules:
    1. The bundles of zones only, each by its exact name; partners' bundles are never received.
    2. A zone that is no longer configured has no path from that moment on.
    3. What was last seen is served for a bounded time while the API server cannot be asked.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from webhook.api import Informer
from webhook.api.informer_group import InformerGroup
from webhook.endpoint.metrics import ANSWERS, AUTHORITIES, SEQUENCE
from webhook.endpoint.zone_publication import ZonePublication, path_of
from webhook.endpoint.zone_source import PublishedBundle, ZoneSource
from webhook.names import bundle_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from webhook.api import Api, Resource
    from webhook.config import Zone

__all__ = ("PublishedZones",)


class PublishedZones(InformerGroup[str, PublishedBundle]):
    """The bundles of the zones, by name of their ClusterTrustBundles.

    Args:
        api: The API server.
        resource: ClusterTrustBundles, in the version that it serves.
        max_stale: How long a bundle is served that nobody could confirm.
        sequence_base: Added to each sequence number.
    """

    def __init__(
        self, api: Api, resource: Resource, *, max_stale: timedelta, sequence_base: int = 0
    ) -> None:
        super().__init__(self._watch)
        self._api = api
        self._resource = resource
        self._max_stale_seconds = max_stale.total_seconds()
        self._sequence_base = sequence_base
        self._places: dict[str, ZonePublication] = {}

    async def follow_zones(self, zones: Iterable[Zone]) -> None:
        """Publish exactly these zones."""
        wanted = {path_of(zone): zone for zone in zones}
        known = self._places
        self._places = {
            path: known[path] if path in known and known[path].zone == zone else self._place(zone)
            for path, zone in wanted.items()
        }
        self._forget_metrics(known.values())
        await self.follow(map(_name, wanted.values()))
        self.tell()

    def publication_at(self, path: str) -> ZonePublication | None:
        """What is published at a path; None: nothing is."""
        found = self._places.get(path)
        if found is None:
            ANSWERS.labels("", "404").inc()
        return found

    @property
    def is_out_of_date(self) -> bool:
        """Whether nothing is served any more, since the API server could not be asked."""
        return all(each.is_stale(self._max_stale_seconds) for each in self.informers())

    def tell(self) -> None:
        """Set the metrics."""
        for place in self._places.values():
            bundle = place.source.snapshot.own_bundle
            AUTHORITIES.labels(place.zone.name).set(0 if bundle is None else len(bundle))
            if bundle is not None and bundle.sequence is not None:
                SEQUENCE.labels(place.zone.name).set(bundle.sequence)

    def _forget_metrics(self, before: Iterable[ZonePublication]) -> None:
        names = {place.zone.name for place in self._places.values()}
        for name in {place.zone.name for place in before} - names:
            for gauge in (AUTHORITIES, SEQUENCE):
                with suppress(KeyError):  # of one that was never published there is no sequence
                    gauge.remove(name)

    def _place(self, zone: Zone) -> ZonePublication:
        name = _name(zone)
        source = ZoneSource(zone, lambda: self._find(name), sequence_base=self._sequence_base)
        return ZonePublication(zone, source)

    def _find(self, name: str) -> PublishedBundle | None:
        informer = self.informer(name)
        if informer is None or informer.is_stale(self._max_stale_seconds):
            return None
        return informer.get(None, name)

    def _watch(self, name: str) -> Informer[PublishedBundle]:
        selector = f"metadata.name={name}"
        return Informer(self._api, self._resource, PublishedBundle.parse, field_selector=selector)


def _name(zone: Zone) -> str:
    return bundle_name(zone.signer_name, zone.trust_domain)
