# SPDX-License-Identifier: Apache-2.0
"""What the cluster can do, written into the ConfigMap that the injector mounts.

Rules:
    1. Written only when it changed: each write reaches all injectors.
    2. When the API server does not say, what was written stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubetls_sdk.exceptions import ConfigurationError
from webhook.api.discovery import first_served
from webhook.api.errors import ForbiddenError, NotFoundError
from webhook.api.resources import (
    CLUSTER_TRUST_BUNDLES,
    CLUSTER_TRUST_BUNDLES_V1BETA1,
    CONFIG_MAPS,
    CSI_DRIVERS,
    POD_CERTIFICATE_REQUESTS,
    POD_CERTIFICATE_REQUESTS_V1BETA1,
    Resource,
)
from webhook.capabilities import Capabilities
from webhook.names import CAPABILITIES_KEY, CAPABILITIES_MAP, CSI_DRIVER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from webhook.api.client import Api

__all__ = ("discover", "report", "reported")


async def discover(
    api: Api, old_nodes: Iterable[str], *, nodes_without_driver: Iterable[str] = ()
) -> Capabilities:
    """Ask the API server what it serves.

    Args:
        api: The API server.
        old_nodes: Names of the nodes that are too old for pod certificates.
        nodes_without_driver: Names of the nodes that lack our CSI driver.

    Raises:
        ApiError: It did not say.
    """
    requests = (POD_CERTIFICATE_REQUESTS, POD_CERTIFICATE_REQUESTS_V1BETA1)
    bundles = (CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLES_V1BETA1)
    has_driver = await _has_driver(api)
    return Capabilities(
        pod_certificates=_version(await first_served(api, *requests)),
        cluster_trust_bundles=_version(await first_served(api, *bundles)),
        old_nodes=tuple(sorted(old_nodes)),
        csi_driver=has_driver,
        nodes_without_driver=tuple(sorted(nodes_without_driver)) if has_driver else (),
    )


async def reported(api: Api, *, namespace: str) -> Capabilities:
    """Read what was written last; without it, all that there may be.

    Raises:
        ApiError: It cannot be read.
    """
    try:
        found = await api.get(CONFIG_MAPS, CAPABILITIES_MAP, namespace=namespace)
        return Capabilities.parse((found.get("data") or {}).get(CAPABILITIES_KEY, ""))
    except (NotFoundError, ConfigurationError):
        return Capabilities()


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


async def _has_driver(api: Api) -> bool:
    try:
        await api.get(CSI_DRIVERS, CSI_DRIVER)
    except (NotFoundError, ForbiddenError):
        return False  # Forbidden: rights of before there was a driver.
    return True


def _version(resource: Resource | None) -> str | None:
    return None if resource is None else resource.version
