# SPDX-License-Identifier: Apache-2.0
"""What a cluster has: namespaces, what injected pods have in their volumes, published bundles.

Rules:
    1. It reads only, one page of pods at a time, and nothing secret.
    2. What it has no right to see is named, and the rest is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from sys import intern
from typing import TYPE_CHECKING, Any

from webhook.api.discovery import first_served
from webhook.api.errors import ForbiddenError, GoneError
from webhook.api.resources import (
    CLUSTER_TRUST_BUNDLES,
    CLUSTER_TRUST_BUNDLES_V1BETA1,
    NAMESPACES,
    PODS,
)
from webhook.choice import CHOSEN, INJECTED
from webhook.names import PARTNER_LABEL, TRUST_DOMAIN_LABEL, VOLUME
from webhook.trust.labels import MANAGED, WITHDRAWN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Self

    from webhook.api.client import Api

__all__ = ("ClusterState", "EquippedPod", "PublishedBundle", "read_bundles", "read_state")

_BUNDLE_FILE = ".trust-bundle.pem"
_ENDED = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class EquippedPod:
    """An injected pod.

    Attributes:
        namespace: Of the pod.
        name: Of the pod.
        signer_name: Whom its volume asks; empty in Secret mode, where that is not in the pod.
        trusts: Trust domains whose bundles are in its volume; empty in Secret mode.
        annotations: What its author chose.
    """

    namespace: str
    name: str
    signer_name: str
    trusts: tuple[str, ...]
    annotations: Mapping[str, str]

    @classmethod
    def parse(cls, pod: Mapping[str, Any]) -> Self | None:
        """Take a Pod object; None when it is not injected, or has ended."""
        metadata = pod["metadata"]
        annotations = metadata.get("annotations") or {}
        if INJECTED not in annotations or (pod.get("status") or {}).get("phase") in _ENDED:
            return None
        sources = _sources(pod["spec"].get("volumes") or ())
        certificates = [each["podCertificate"] for each in sources if each.get("podCertificate")]
        return cls(
            namespace=intern(metadata["namespace"]),
            name=metadata["name"],
            signer_name=intern(certificates[0].get("signerName", "")) if certificates else "",
            trusts=tuple(_trusted(each) for each in sources if each.get("clusterTrustBundle")),
            annotations={key: annotations[key] for key in CHOSEN if key in annotations},
        )


@dataclass(frozen=True, slots=True)
class PublishedBundle:
    """A ClusterTrustBundle of any signer name.

    Attributes:
        name: Of it.
        signer_name: Of it; empty without one.
        trust_domain: As its label says.
        partner: As its label says: volumes find it by that.
        is_managed: Whether it says that we made it.
        withdrawn: Why nobody of a partner is trusted at the moment; empty: it is in force.
        text: PEM.
    """

    name: str
    signer_name: str
    trust_domain: str
    partner: str
    is_managed: bool
    withdrawn: str
    text: str = field(repr=False)

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        """Take a ClusterTrustBundle object."""
        spec, labels = body["spec"], body["metadata"].get("labels") or {}
        return cls(
            name=body["metadata"]["name"],
            signer_name=spec.get("signerName") or "",
            trust_domain=labels.get(TRUST_DOMAIN_LABEL, ""),
            partner=labels.get(PARTNER_LABEL, ""),
            is_managed=MANAGED.items() <= labels.items(),
            withdrawn=(body["metadata"].get("annotations") or {}).get(WITHDRAWN, ""),
            text=spec.get("trustBundle") or "",
        )


@dataclass(frozen=True, slots=True)
class ClusterState:
    """What a cluster has.

    Attributes:
        namespaces: Names of all of them; None: not seen.
        pods: The injected ones that have not ended; None: not seen.
        bundles: All that are published; None: not seen, or the API is not served.
        unseen: What there was no right to see.
    """

    namespaces: tuple[str, ...] | None
    pods: tuple[EquippedPod, ...] | None
    bundles: tuple[PublishedBundle, ...] | None
    unseen: tuple[str, ...] = ()


async def read_state(api: Api) -> ClusterState:
    """Read it.

    Raises:
        ApiError: The API server did not answer.
    """
    reads: dict[str, Callable[[Api], Awaitable[Any]]] = {
        "namespaces": _namespaces,
        "pods": _pods,
        "bundles": read_bundles,
    }
    found: dict[str, Any] = {}
    unseen = []
    for name, read in reads.items():
        try:
            found[name] = await read(api)
        except ForbiddenError:
            found[name] = None
            unseen.append(name)
    return ClusterState(**found, unseen=tuple(unseen))


async def read_bundles(api: Api) -> tuple[PublishedBundle, ...] | None:
    """Read all ClusterTrustBundles; None where the API server has none.

    Raises:
        ApiError: The API server did not answer, or this account may not list them.
    """
    resource = await first_served(api, CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLES_V1BETA1)
    if resource is None:
        return None
    return tuple(PublishedBundle.parse(each) for each in (await api.list(resource)).items)


async def _namespaces(api: Api) -> tuple[str, ...]:
    return tuple(sorted(each["metadata"]["name"] for each in (await api.list(NAMESPACES)).items))


async def _pods(api: Api) -> tuple[EquippedPod, ...]:
    try:
        return await _paged(api)
    except GoneError:
        return await _paged(api)


async def _paged(api: Api) -> tuple[EquippedPod, ...]:
    found = []
    async for page in api.pages(PODS):
        found += [each for each in map(EquippedPod.parse, page.items) if each is not None]
    return tuple(sorted(found, key=lambda pod: (pod.namespace, pod.name)))


def _sources(volumes: Any) -> list[Mapping[str, Any]]:
    ours: Mapping[str, Any] = next((each for each in volumes if each.get("name") == VOLUME), {})
    return (ours.get("projected") or {}).get("sources") or []


def _trusted(source: Mapping[str, Any]) -> str:
    return intern(str(source["clusterTrustBundle"].get("path", "")).removesuffix(_BUNDLE_FILE))
