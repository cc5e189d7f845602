# SPDX-License-Identifier: Apache-2.0
"""Whether every pod of a zone was seen to get a new leaf, so that an old root may go early.

It is watched only while some zone has a retired authority. What was not seen is not replaced: then
the last leaf's expiry decides, as it always may.

Rules:
    1. A pod is replaced when the last leaf that it was issued is under the authority that signs,
       and that was seen longer ago than the zone's propagation: it has mounted and loaded it.
    2. A pod counts when its volumes or annotations say so, or when it was seen to be issued a leaf.
       One that asked by itself, before that was watched, cannot be known of.
    3. A pod with two sources of one signer, or whose zone cannot be told, is never replaced.
    4. One live pod that is not replaced keeps the old root; a pod that has ended does not.
    5. What is not seen clearly (a watch is behind) counts as not seen.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from webhook.api.informer import Informer
from webhook.api.objects import Pod
from webhook.api.resources import CERTIFICATE_SIGNING_REQUESTS, PODS, Resource
from webhook.choice import SECRET, choose
from webhook.exceptions import AdmissionDenied
from webhook.trust.issued_leaf import IssuedLeaf, key_identifier
from webhook.trust.pool_entry import SIGNER_LAG, State
from webhook.trust.zone_keeper import Clock, now_utc

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from typing import Any, Self

    from webhook.api.client import Api
    from webhook.config import PlatformConfig, Zone
    from webhook.trust.ca_pool import CaPool

__all__ = ("ReplacedLeaves",)

_STALE_SECONDS: Final = 30.0
_Sighting = tuple[IssuedLeaf, "datetime"]


class ReplacedLeaves:
    """Watches pods and what they are issued.

    Args:
        api: The API server.
        clock: Aware UTC time.
    """

    def __init__(self, api: Api, *, clock: Clock = now_utc) -> None:
        self._api = api
        self._clock = clock
        self._stack = AsyncExitStack()
        self._followed: frozenset[tuple[str, Resource | None]] = frozenset()
        self._informers: list[Informer[Any]] = []
        self._pods: Informer[Pod] | None = None
        self._last: dict[tuple[str, str], _Sighting] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.follow((), None)

    async def follow(self, signer_names: Iterable[str], requests: Resource | None) -> None:
        """Watch what these signers issue, and pods; nothing at all without signers.

        Args:
            signer_names: Of the zones with a retired authority.
            requests: The version of PodCertificateRequest that is served; None: none is.
        """
        wanted = frozenset((name, requests) for name in signer_names)
        if wanted == self._followed:
            return
        await self._stack.aclose()
        self._stack, self._informers, self._pods = AsyncExitStack(), [], None
        self._followed = wanted
        names = {name for name, _ in wanted}
        self._last = {key: sighting for key, sighting in self._last.items() if key[1] in names}
        if not wanted:
            return
        pods = self._pods = Informer(self._api, PODS, Pod.parse)
        pods.subscribe(self._forget)
        self._informers.append(pods)
        for name, resource in wanted:
            self._follow_requests(name, resource)
        for informer in self._informers:
            await self._stack.enter_async_context(informer)

    async def synced(self) -> None:
        """Wait until everything that is followed was seen once."""
        for informer in self._informers:
            await informer.synced()

    def replaced(self, zone: Zone, pool: CaPool, config: PlatformConfig) -> frozenset[str]:
        """The ids of retired authorities of which no live pod holds a leaf any more."""
        active = pool.active_entry
        retired = pool.entries_in(State.RETIRED)
        if active is None or active.authority is None or active.activated_at is None or not retired:
            return frozenset()
        patience = min(SIGNER_LAG, zone.propagation)
        if not self._is_clear or self._clock() < active.activated_at + patience:
            return frozenset()
        issuer = key_identifier(active.authority.certificate)
        users = (
            pod
            for pod in self._live_pods()
            if (pod.uid, zone.signer_name) in self._last or _may_use(pod, zone, config)
        )
        if all(self._is_replaced(pod, zone, issuer) for pod in users):
            return frozenset(entry.id for entry in retired)
        return frozenset()

    @property
    def _is_clear(self) -> bool:
        informers = self._informers
        return bool(informers) and not any(each.is_stale(_STALE_SECONDS) for each in informers)

    def _live_pods(self) -> Iterable[Pod]:
        pods = self._pods.values() if self._pods is not None else ()
        return (pod for pod in pods if not pod.has_ended)

    def _is_replaced(self, pod: Pod, zone: Zone, issuer: bytes) -> bool:
        sources = [name for volume in pod.volumes for name in volume.signer_names]
        if sources.count(zone.signer_name) + (SECRET in pod.annotations) > 1:
            return False
        last = self._last.get((pod.uid, zone.signer_name))
        if last is None or last[0].issuer != issuer:
            return False
        return self._clock() >= last[1] + zone.propagation

    def _follow_requests(self, signer_name: str, resource: Resource | None) -> None:
        selector = f"spec.signerName={signer_name}"
        signing = Informer(
            self._api,
            CERTIFICATE_SIGNING_REQUESTS,
            IssuedLeaf.of_signing_request,
            field_selector=selector,
        )
        signing.subscribe(self._take)
        self._informers.append(signing)
        if resource is None:
            return
        certificates = Informer(
            self._api, resource, IssuedLeaf.of_pod_certificate_request, field_selector=selector
        )
        certificates.subscribe(self._take)
        self._informers.append(certificates)

    def _take(self, _: IssuedLeaf | None, leaf: IssuedLeaf | None) -> None:
        if leaf is None:
            return
        key = (leaf.pod_uid, leaf.signer_name)
        known = self._last.get(key)
        if known is not None and known[0].not_before > leaf.not_before:
            return
        if known is None or known[0] != leaf:
            self._last[key] = (leaf, self._clock())

    def _forget(self, old: Pod | None, new: Pod | None) -> None:
        if old is not None and (new is None or new.uid != old.uid):
            for name, _ in self._followed:
                self._last.pop((old.uid, name), None)


def _may_use(pod: Pod, zone: Zone, config: PlatformConfig) -> bool:
    """Whether a pod may hold a leaf of a zone."""
    if any(zone.signer_name in volume.signer_names for volume in pod.volumes):
        return True
    if SECRET not in pod.annotations:
        return False
    try:
        return choose(config, pod.namespace, pod.annotations).zone.name == zone.name
    except AdmissionDenied:
        return True
