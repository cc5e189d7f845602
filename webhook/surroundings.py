# SPDX-License-Identifier: Apache-2.0
"""What a replica of signer or secret issuer sees of the cluster, and its place in its group.

Rules:
    1. The Services' index hears of each change before anybody else does.
    2. The group is left last: what is under way then is finished.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from webhook.api import Api, EventRecorder, Informer, Membership, Pod, Service
from webhook.api.resources import PODS, SERVICES
from webhook.issuance.service_names import ServiceIndex

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ("Place", "Surroundings")


class Place(Protocol):
    """Where a replica runs."""

    @property
    def identity(self) -> str:
        """Of this replica."""

    @property
    def namespace(self) -> str:
        """Where the control plane lives."""

    @property
    def kubeconfig(self) -> Path | None:
        """How to reach the API server; None: as the pod's service account."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The cluster, as a replica sees it.

    Attributes:
        api: The API server.
        events: Where Events go.
        pods: All pods.
        services: All Services.
        index: The Services, by what they select.
        replicas: The group.
    """

    api: Api
    events: EventRecorder
    pods: Informer[Pod]
    services: Informer[Service]
    index: ServiceIndex
    replicas: Membership

    @classmethod
    @asynccontextmanager
    async def seen_by(cls, component: str, place: Place) -> AsyncIterator[Surroundings]:
        """Open the connections and watches of one replica.

        Args:
            component: Whose Events they are, and the name of the group.
            place: Where the replica runs.
        """
        index = ServiceIndex()
        async with (
            await Api.connect(place.kubeconfig) as api,
            EventRecorder(api, component, instance=place.identity) as events,
            Membership(api, place.namespace, component, place.identity) as replicas,
            Informer(api, PODS, Pod.parse) as pods,
            Informer(api, SERVICES, Service.parse) as services,
        ):
            services.subscribe(index.apply)
            yield cls(api, events, pods, services, index, replicas)

    async def complete(self) -> None:
        """Wait until pods, Services and the group were seen."""
        await asyncio.gather(self.pods.synced(), self.services.synced(), self.replicas.joined())

    @property
    def has_failed(self) -> bool:
        """Whether a part of it has ended by a mistake of ours."""
        return any(part.has_failed for part in (self.pods, self.services, self.replicas))

    def is_stale(self, seconds: float) -> bool:
        """Whether pods or Services were out of sight for this long."""
        return self.pods.is_stale(seconds) or self.services.is_stale(seconds)
