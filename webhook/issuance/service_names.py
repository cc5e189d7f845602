# SPDX-License-Identifier: Apache-2.0
"""The DNS names of a pod: those of the Services that select it now.

Rules:
    1. A Service vouches by its selector alone. Without one, with an empty one, or as
       ExternalName, it vouches for nobody.
    2. A pod's own name counts under a headless Service that selects it and that it names as its
       subdomain, as in the cluster's DNS.
    3. A name that may be meant outside of the cluster is never among them.
    4. There is room for `MAX_NAME_BYTES`; what is over is left out, by the order of the Services'
       names, and told.

Spec: Kubernetes DNS specification 1.1 §2.3, §2.4; RFC 1035 §2.3.4.
"""

from __future__ import annotations

import re
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from webhook.issuance.public_suffix import is_meant_elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from webhook.api.objects import Pod, Service

__all__ = ("MAX_NAME_BYTES", "ServiceIndex", "VouchedNames", "dns_names", "vouched_names")

MAX_NAME_BYTES: Final = 16 * 1024
"""Of all DNS names together: the API server takes a chain of 100 KiB of PEM, and each peer reads
it in each handshake."""

_MAX_NAME: Final = 253
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_Pair = tuple[str, str]


class VouchedNames(NamedTuple):
    """What the Services of a pod vouch for.

    Attributes:
        names: Sorted, without duplicates.
        services: How many Services select the pod.
        left_out: How many names had no room or are no DNS names.
    """

    names: tuple[str, ...]
    services: int
    left_out: int


class ServiceIndex:
    """The Services of a cluster, found by the pods that they select.

    Args:
        services: The first ones.
    """

    def __init__(self, services: Iterable[Service] = ()) -> None:
        self._buckets: dict[str, dict[_Pair, dict[str, Service]]] = {}
        for service in services:
            self.apply(None, service)

    def apply(self, old: Service | None, new: Service | None) -> None:
        """Take a change: an informer's callback. None before: added; None after: deleted."""
        if old is not None:
            self._remove(old)
        if new is not None and new.selector and new.type != "ExternalName":
            buckets = self._buckets.setdefault(new.namespace, {})
            buckets.setdefault(_key(new), {})[new.name] = new

    def selecting(self, pod: Pod) -> list[Service]:
        """The Services that select a pod, by name."""
        buckets = self._buckets.get(pod.namespace)
        if not buckets:
            return []
        found = [
            service
            for pair in pod.labels.items()
            for service in buckets.get(pair, {}).values()
            if service.selects(pod.labels)
        ]
        found.sort(key=attrgetter("name"))
        return found

    def _remove(self, service: Service) -> None:
        buckets = self._buckets.get(service.namespace, {})
        if not service.selector or _key(service) not in buckets:
            return
        bucket = buckets[_key(service)]
        bucket.pop(service.name, None)
        if not bucket:
            del buckets[_key(service)]
        if not buckets:
            del self._buckets[service.namespace]


def dns_names(
    pod: Pod, services: ServiceIndex, *, cluster_domain: str, short_names: bool
) -> tuple[str, ...]:
    """List the DNS names that a pod's certificate bears.

    Args:
        pod: The pod, with its labels of now.
        services: Of the cluster.
        cluster_domain: Such as `cluster.local`.
        short_names: Whether `<service>.<namespace>` is one, where it means nothing outside.

    Returns:
        Sorted, without duplicates; none where no Service selects the pod.
    """
    return vouched_names(
        pod, services, cluster_domain=cluster_domain, short_names=short_names
    ).names


def vouched_names(
    pod: Pod, services: ServiceIndex, *, cluster_domain: str, short_names: bool
) -> VouchedNames:
    """List the DNS names of `dns_names`, and tell what there was no room for."""
    names: set[str] = set()
    selecting = services.selecting(pod)
    room, left_out = MAX_NAME_BYTES, 0
    for service in selecting:
        for name in _names_of(service, pod, cluster_domain, short_names=short_names):
            if len(name) > min(room, _MAX_NAME):
                left_out += 1
            else:
                names.add(name)
                room -= len(name)
    return VouchedNames(tuple(sorted(names)), len(selecting), left_out)


def _names_of(
    service: Service, pod: Pod, cluster_domain: str, *, short_names: bool
) -> Iterator[str]:
    if not (_LABEL.fullmatch(service.name) and _LABEL.fullmatch(service.namespace)):
        return
    short = f"{service.name}.{service.namespace}"
    yield f"{short}.svc"
    yield f"{short}.svc.{cluster_domain}"
    if short_names and not is_meant_elsewhere(short):
        yield short
    if service.is_headless and pod.subdomain == service.name and _LABEL.fullmatch(pod.hostname):
        yield f"{pod.hostname}.{short}.svc"
        yield f"{pod.hostname}.{short}.svc.{cluster_domain}"


def _key(service: Service) -> _Pair:
    return min(service.selector.items())
