# SPDX-License-Identifier: Apache-2.0
"""What the driver of one node sees of the cluster.

Rules:
    1. No more than it needs: the pods of its own node, and of Services what vouches for names.
    2. The Services' index hears of each change before anybody else does.
    3. What pods ask goes over connections of its own, which know nobody of ours.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from webhook.api import Api, EventRecorder, Informer, Pod, Service
from webhook.api.resources import PODS, SERVICES
from webhook.issuance.service_names import ServiceIndex

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ("NodeSurroundings",)

_CONNECTIONS: Final = 4  # Each takes a quarter of a megabyte, and a few serve hundreds of pods.


@dataclass(frozen=True, slots=True)
class NodeSurroundings:
    """The cluster, as one node's driver sees it.

    Attributes:
        api: The API server, as the driver's own account.
        guests: The same, as nobody: for requests with pods' tokens.
        events: Where Events go.
        pods: Of this node.
        services: All Services.
        index: The Services, by what they select.
    """

    api: Api
    guests: Api
    events: EventRecorder
    pods: Informer[Pod]
    services: Informer[Service]
    index: ServiceIndex

    @classmethod
    @asynccontextmanager
    async def seen_from(
        cls, node_name: str, *, kubeconfig: Path | None
    ) -> AsyncIterator[NodeSurroundings]:
        """Open the connections and watches; nothing is waited for.

        Args:
            node_name: Of the node.
            kubeconfig: How to reach the API server; None: as the pod's service account.
        """
        index = ServiceIndex()
        mine = f"spec.nodeName={node_name}"
        async with (
            await Api.connect(kubeconfig) as api,
            api.anonymous(connections=_CONNECTIONS) as guests,
            EventRecorder(api, "kubetls-node", instance=node_name) as events,
            Informer(api, PODS, Pod.parse, field_selector=mine) as pods,
            Informer(api, SERVICES, Service.parse) as services,
        ):
            services.subscribe(index.apply)
            yield cls(api, guests, events, pods, services, index)

    async def complete(self) -> None:
        """Wait until pods and Services were seen."""
        await asyncio.gather(self.pods.synced(), self.services.synced())

    @property
    def has_failed(self) -> bool:
        """Whether a part of it has ended by a mistake of ours."""
        return self.pods.has_failed or self.services.has_failed

    def is_stale(self, seconds: float) -> bool:
        """Whether pods or Services were out of sight for this long."""
        return self.pods.is_stale(seconds) or self.services.is_stale(seconds)
