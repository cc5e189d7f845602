# SPDX-License-Identifier: Apache-2.0
"""What the cluster can do, written into the ConfigMap that the injector mounts.

Rules:
    1. Written only when it changed: each write reaches all injectors.
    2. When the API server does not say, what was written stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhook.api.errors import NotFoundError
from webhook.api.resources import (
    CLUSTER_TRUST_BUNDLES,
    CLUSTER_TRUST_BUNDLES_V1BETA1,
    CONFIG_MAPS,
    POD_CERTIFICATE_REQUESTS,
    POD_CERTIFICATE_REQUESTS_V1BETA1,
    Resource,
)
from webhook.capabilities import Capabilities
from webhook.names import CAPABILITIES_KEY, CAPABILITIES_MAP

if TYPE_CHECKING:
    from collections.abc import Iterable

    from webhook.api.client import Api

__all__ = ("discover", "report")


async def discover(api: Api, old_nodes: Iterable[str]) -> Capabilities:
    """Ask the API server what it serves.

    Args:
        api: The API server.
        old_nodes: Names of the nodes that are too old for pod certificates.

    Raises:
        ApiError: It did not say.
    """
    requests = (POD_CERTIFICATE_REQUESTS, POD_CERTIFICATE_REQUESTS_V1BETA1)
    bundles = (CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLES_V1BETA1)
    return Capabilities(
        pod_certificates=await _served(api, requests),
        cluster_trust_bundles=await _served(api, bundles),
        old_nodes=tuple(sorted(old_nodes)),
    )


async def report(api: Api, capabilities: Capabilities, *, namespace: str) -> None:
    """Write capabilities, if the ConfigMap says something else.

    Raises:
        ConflictError: Somebody else wrote at the same time.
        ApiError: Any other failure.
    """
    data = {CAPABILITIES_KEY: capabilities.to_json()}
    try:
        found = await api.get(CONFIG_MAPS, CAPABILITIES_MAP, namespace=namespace)
    except NotFoundError:
        metadata = {"name": CAPABILITIES_MAP, "namespace": namespace}
        await api.create(CONFIG_MAPS, {"metadata": metadata, "data": data})
        return
    if found.get("data") != data:
        await api.replace(CONFIG_MAPS, {**found, "data": data})


async def _served(api: Api, resources: Iterable[Resource]) -> str | None:
    for resource in resources:
        if await api.serves(resource):
            return resource.version
    return None
