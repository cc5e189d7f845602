# SPDX-License-Identifier: Apache-2.0
"""What the control plane needs to know of pods, Services and namespaces, and nothing more.

Rules:
    1. Small: 10,000 pods are held in memory. Repeated texts are interned, containers dropped.
    2. Of a pod's annotations only ours are kept.
    3. `parse` trusts the API server's schema; a value of a wrong type raises and is not kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from sys import intern
from typing import TYPE_CHECKING, Any

from webhook.names import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

__all__ = ("Namespace", "Pod", "Service", "Volume")

_MIRROR = "kubernetes.io/config.mirror"
_ENDED = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class Volume:
    """One of a pod's volumes that can carry credentials.

    Attributes:
        name: Its name in the pod.
        secret_name: The Secret, where it is a `secret` volume.
        signer_names: Signers of `podCertificate` sources, where it is a `projected` volume.
        csi_driver: The driver, where it is an inline `csi` volume.
    """

    name: str
    secret_name: str | None = None
    signer_names: tuple[str, ...] = ()
    csi_driver: str | None = None

    @classmethod
    def parse(cls, volume: Mapping[str, Any]) -> Self | None:
        """Take a volume, or None where it is of another kind (configMap, emptyDir, token…)."""
        secret = (volume.get("secret") or {}).get("secretName")
        driver = (volume.get("csi") or {}).get("driver")
        sources = (volume.get("projected") or {}).get("sources") or ()
        signers = tuple(
            intern(source["podCertificate"]["signerName"])
            for source in sources
            if source.get("podCertificate")
        )
        if not (secret or driver or signers):
            return None
        return cls(intern(volume["name"]), secret, signers, driver)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod, as far as its identity and our injection go.

    Attributes:
        annotations: Only those with our prefix.
        node_name: Empty until it is scheduled.
        phase: `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`.
        volumes: Only those that can carry credentials.
        owner_uid: UID of the controlling owner, such as a ReplicaSet; empty without.
        is_mirror: It stands for a static pod of its node.
        hostname: Its own name in DNS, with `subdomain` the headless Service that it says it is of;
            both empty but for pods of StatefulSets and those that set them.
    """

    namespace: str
    name: str
    uid: str
    node_name: str
    service_account: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    phase: str
    is_terminating: bool
    is_mirror: bool
    volumes: tuple[Volume, ...]
    owner_uid: str = ""
    hostname: str = ""
    subdomain: str = ""

    @classmethod
    def parse(cls, pod: Mapping[str, Any]) -> Self:
        """Take what is needed from a Pod object."""
        metadata, spec = pod["metadata"], pod["spec"]
        annotations = metadata.get("annotations") or {}
        volumes = (Volume.parse(volume) for volume in spec.get("volumes") or ())
        return cls(
            namespace=intern(metadata["namespace"]),
            name=metadata["name"],
            uid=metadata["uid"],
            node_name=intern(spec.get("nodeName") or ""),
            service_account=intern(spec.get("serviceAccountName") or "default"),
            labels=_interned(metadata.get("labels")),
            annotations={intern(key): value for key, value in annotations.items() if _is_ours(key)},
            phase=intern((pod.get("status") or {}).get("phase") or "Unknown"),
            is_terminating=metadata.get("deletionTimestamp") is not None,
            is_mirror=_MIRROR in annotations,
            volumes=tuple(volume for volume in volumes if volume is not None),
            owner_uid=intern(_controller(metadata)),
            hostname=spec.get("hostname") or "",
            subdomain=intern(spec.get("subdomain") or ""),
        )

    @property
    def has_ended(self) -> bool:
        """Whether its containers ended for good, as a Job's do."""
        return self.phase in _ENDED

    def volume(self, name: str) -> Volume | None:
        """The volume of this name, if it is one that can carry credentials."""
        return next((volume for volume in self.volumes if volume.name == name), None)


@dataclass(frozen=True, slots=True)
class Service:
    """A Service, as far as it vouches for names of pods.

    Attributes:
        selector: Empty where it selects no pods.
        type: `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
        is_headless: It has no address of its own, and its pods have names under its own.
    """

    namespace: str
    name: str
    uid: str
    selector: Mapping[str, str]
    type: str
    is_terminating: bool
    annotations: Mapping[str, str]
    is_headless: bool = False

    @classmethod
    def parse(cls, service: Mapping[str, Any]) -> Self:
        """Take what is needed from a Service object."""
        metadata, spec = service["metadata"], service.get("spec") or {}
        annotations = metadata.get("annotations") or {}
        return cls(
            namespace=intern(metadata["namespace"]),
            name=metadata["name"],
            uid=metadata["uid"],
            selector=_interned(spec.get("selector")),
            type=intern(spec.get("type") or "ClusterIP"),
            is_terminating=metadata.get("deletionTimestamp") is not None,
            annotations={intern(key): value for key, value in annotations.items() if _is_ours(key)},
            is_headless=spec.get("clusterIP") == "None",
        )

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether it selects a pod with these labels; without a selector, or external: none."""
        if not self.selector or self.type == "ExternalName":
            return False
        return all(labels.get(key) == value for key, value in self.selector.items())


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace and its labels."""

    name: str
    uid: str
    labels: Mapping[str, str]
    is_terminating: bool

    @classmethod
    def parse(cls, namespace: Mapping[str, Any]) -> Self:
        """Take what is needed from a Namespace object."""
        metadata = namespace["metadata"]
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            labels=_interned(metadata.get("labels")),
            is_terminating=metadata.get("deletionTimestamp") is not None,
        )


def _interned(labels: Mapping[str, str] | None) -> dict[str, str]:
    return {intern(key): intern(value) for key, value in (labels or {}).items()}


def _is_ours(key: str) -> bool:
    return key.startswith(f"{PREFIX}/")


def _controller(metadata: Mapping[str, Any]) -> str:
    owners = metadata.get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("controller")), "")
