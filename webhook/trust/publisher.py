# SPDX-License-Identifier: Apache-2.0
"""The ClusterTrustBundles: published, read back, put right, removed.

Rules:
    1. What is there is compared with what must be there, each time: edits by others are reverted,
       labels and annotations of a prefix that is not ours are left alone.
    2. A write names the version that was read; that was read before the pool it is made from. So
       a leader of yesterday can never put yesterday's bundle back.
    3. Our signer names are ours alone: what others publish under them would be trusted by every
       pod of the zone, and is removed.
    4. Where the API is missing, bundles go into ConfigMaps for whoever reads those; pods have
       theirs in their Secret. What the configuration has is not copied.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.exceptions import BundleError
from webhook.api.discovery import first_served
from webhook.api.errors import NotFoundError
from webhook.api.resources import (
    CLUSTER_TRUST_BUNDLES,
    CLUSTER_TRUST_BUNDLES_V1BETA1,
    CONFIG_MAPS,
    Resource,
)
from webhook.names import PARTNER_SIGNER_NAME, PREFIX, SYSTEM_NAMESPACE
from webhook.trust.labels import MANAGED_SELECTOR
from webhook.trust.publication import wanted_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kubetls_sdk.spiffe_id import TrustDomain
    from webhook.api.client import Api
    from webhook.config import PlatformConfig
    from webhook.trust.publication import Publication

__all__ = (
    "ConfigMapPublisher",
    "Published",
    "Publisher",
    "TrustBundlePublisher",
    "anchors_in",
    "find_publisher",
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """A bundle as it was read from the API server.

    Attributes:
        body: The object.
        text: The PEM text in it.
    """

    body: Mapping[str, Any] = field(repr=False)
    text: str = field(repr=False)

    def anchors(self, trust_domain: TrustDomain) -> frozenset[bytes]:
        """DER of its authorities; none when somebody made it unreadable."""
        return anchors_in(self.text, trust_domain)

    @property
    def annotations(self) -> Mapping[str, str]:
        """All of them."""
        found: Mapping[str, str] = self.body["metadata"].get("annotations") or {}
        return found

    @property
    def labels(self) -> Mapping[str, str]:
        """All of them."""
        found: Mapping[str, str] = self.body["metadata"].get("labels") or {}
        return found


class Publisher(Protocol):
    """Where bundles are published.

    Attributes:
        resource: Of the objects.
    """

    resource: Resource

    async def read(self, name: str, fallback: str | None) -> Published | None:
        """Read a bundle by its name, or its ConfigMap's; None when there is none."""

    async def publish(self, publication: Publication, found: Published | None) -> bool:
        """Make a bundle right; tell whether anything had to be written.

        Raises:
            ConflictError: It is not as it was found any more.
            AlreadyExistsError: It was made meanwhile.
            ApiError: Any other failure.
        """

    async def sweep(self, config: PlatformConfig, *, spared: frozenset[str]) -> None:
        """Remove what is ours and not wanted any more, and what others published as ours.

        Args:
            config: What is wanted.
            spared: Signer names whose zones are in trouble: what they have stays.

        Raises:
            ApiError: The API server failed.
        """


class TrustBundlePublisher:
    """ClusterTrustBundles.

    Args:
        api: The API server.
        resource: The version of the API that it serves.
    """

    def __init__(self, api: Api, resource: Resource = CLUSTER_TRUST_BUNDLES) -> None:
        self._api = api
        self.resource = resource

    async def read(self, name: str, fallback: str | None = None) -> Published | None:
        """Read a bundle; None when there is none."""
        del fallback
        try:
            body = await self._api.get(self.resource, name)
        except NotFoundError:
            return None
        return Published(body, (body.get("spec") or {}).get("trustBundle") or "")

    async def publish(self, publication: Publication, found: Published | None) -> bool:
        """Make a bundle right; tell whether anything had to be written."""
        spec = {"signerName": publication.signer_name, "trustBundle": publication.text}
        wanted = {"metadata": {"name": publication.name}, "spec": spec}
        return await _write(self._api, self.resource, wanted, publication, found)

    async def sweep(self, config: PlatformConfig, *, spared: frozenset[str] = frozenset()) -> None:
        """Remove what is ours and not wanted any more, and what others published as ours."""
        wanted = wanted_names(config)
        signers = [zone.signer_name for zone in config.zones.values()]
        queries = [{"label_selector": MANAGED_SELECTOR}]
        queries += [
            {"field_selector": f"spec.signerName={name}"}
            for name in (*signers, PARTNER_SIGNER_NAME)
        ]
        for query in queries:
            for body in (await self._api.list(self.resource, **query)).items:
                is_wanted = body["metadata"]["name"] in wanted
                if not is_wanted and body["spec"].get("signerName") not in spared:
                    await self._remove(body)

    async def _remove(self, body: Mapping[str, Any]) -> None:
        metadata = body["metadata"]
        _log.warning("removing ClusterTrustBundle %r: not in the configuration", metadata["name"])
        try:
            await self._api.delete(self.resource, metadata["name"], uid=metadata["uid"])
        except NotFoundError:
            return


class ConfigMapPublisher:
    """ConfigMaps, where the API server has no ClusterTrustBundles.

    Args:
        api: The API server.
        namespace: Where the ConfigMaps are.
    """

    def __init__(self, api: Api, *, namespace: str = SYSTEM_NAMESPACE) -> None:
        self._api = api
        self._namespace = namespace
        self.resource = CONFIG_MAPS

    async def read(self, name: str, fallback: str | None) -> Published | None:
        """Read a bundle; None when there is none."""
        del name
        if fallback is None:
            return None
        try:
            body = await self._api.get(CONFIG_MAPS, fallback, namespace=self._namespace)
        except NotFoundError:
            return None
        return Published(body, "\n".join((body.get("data") or {}).values()))

    async def publish(self, publication: Publication, found: Published | None) -> bool:
        """Make a bundle right; tell whether anything had to be written."""
        if publication.fallback is None:
            return False
        metadata = {"name": publication.fallback, "namespace": self._namespace}
        wanted = {"metadata": metadata, "data": {publication.key: publication.text}}
        return await _write(self._api, CONFIG_MAPS, wanted, publication, found)

    async def sweep(self, config: PlatformConfig, *, spared: frozenset[str] = frozenset()) -> None:
        """Leave all: the right to list and delete ConfigMaps is not ours."""


async def find_publisher(api: Api, *, namespace: str = SYSTEM_NAMESPACE) -> Publisher:
    """Publish where the API server can.

    Raises:
        ApiError: It did not say what it serves.
    """
    resource = await first_served(api, CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLES_V1BETA1)
    if resource is None:
        return ConfigMapPublisher(api, namespace=namespace)
    return TrustBundlePublisher(api, resource)


def anchors_in(text: str, trust_domain: TrustDomain) -> frozenset[bytes]:
    """DER of the authorities in a text; none when it cannot be read."""
    try:
        found = TrustBundle.from_pem(trust_domain, text.encode())
    except BundleError:
        return frozenset()
    return frozenset(each.public_bytes(Encoding.DER) for each in found.authorities)


async def _write(
    api: Api,
    resource: Resource,
    wanted: dict[str, Any],
    publication: Publication,
    found: Published | None,
) -> bool:
    metadata = wanted["metadata"] if found is None else found.body["metadata"]
    labels = _ours(metadata.get("labels"), publication.labels)
    annotations = _ours(metadata.get("annotations"), publication.annotations)
    content = {key: value for key, value in wanted.items() if key != "metadata"}
    made = {"metadata": {**metadata, "labels": labels, "annotations": annotations}, **content}
    if found is None:
        await api.create(resource, made)
        return True
    is_right = all(found.body.get(key) == value for key, value in content.items())
    is_same = (labels, annotations) == (metadata.get("labels") or {}, found.annotations)
    if is_right and is_same:
        return False
    await api.replace(resource, made)
    return True


def _ours(found: Mapping[str, str] | None, wanted: Mapping[str, str]) -> dict[str, str]:
    """What others have set, and exactly what we want of our prefix."""
    others = {key: value for key, value in (found or {}).items() if not _is_ours(key)}
    return {**others, **wanted}


def _is_ours(key: str) -> bool:
    return key.startswith(f"{PREFIX}/")
