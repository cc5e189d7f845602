# SPDX-License-Identifier: Apache-2.0
"""The namespaces of a cluster, and what the injected pods in them really have.

Rules:
    1. A pod's zone is the one whose signer its volume asks; in Secret mode, the one that the
       secret issuer takes by annotation and rule.
    2. A pod keeps what it was created with: what the configuration would not give it today is
       counted as such.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from webhook.choice import choose
from webhook.exceptions import AdmissionDenied

if TYPE_CHECKING:
    from webhook.config import PlatformConfig
    from webhook.zones.cluster_state import ClusterState, EquippedPod

__all__ = ("NamespaceCensus", "PodTrust", "census", "trust_of")


@dataclass(frozen=True, slots=True)
class PodTrust:
    """What an injected pod has.

    Attributes:
        zone: Name of its zone; empty: its signer is no zone's, or it may have none.
        trusts: Trust domains beside its zone's own.
        excess: Those of them that it may not ask for today.
        is_misplaced: It has a zone that its namespace may not have today, or none at all.
    """

    zone: str
    trusts: tuple[str, ...]
    excess: tuple[str, ...]
    is_misplaced: bool


@dataclass(frozen=True, slots=True)
class NamespaceCensus:
    """A namespace.

    Attributes:
        name: Of it.
        group: Number of the rule that decides; None: there is none.
        zones: Names of zones, and how many pods have them; empty name: no zone of ours.
        trusts: Trust domains beside the pods' own, and how many pods trust them.
        misplaced: Names of pods in a zone that they may not have today.
        excessive: Names of pods that trust whom they may not ask for today.
    """

    name: str
    group: int | None
    zones: Counter[str] = field(default_factory=Counter)
    trusts: Counter[str] = field(default_factory=Counter)
    misplaced: list[str] = field(default_factory=list)
    excessive: list[str] = field(default_factory=list)

    @property
    def injected(self) -> int:
        """How many pods are injected."""
        return self.zones.total()


def census(config: PlatformConfig, state: ClusterState) -> tuple[NamespaceCensus, ...]:
    """Count, by namespace, in the order of names."""
    names = {*(state.namespaces or ()), *(pod.namespace for pod in state.pods or ())}
    found = {name: NamespaceCensus(name, _number(config, name)) for name in sorted(names)}
    for pod in state.pods or ():
        place, trust = found[pod.namespace], trust_of(config, pod)
        place.zones[trust.zone] += 1
        place.trusts.update(trust.trusts)
        if trust.is_misplaced:
            place.misplaced.append(pod.name)
        if trust.excess:
            place.excessive.append(pod.name)
    return tuple(found.values())


def trust_of(config: PlatformConfig, pod: EquippedPod) -> PodTrust:
    """Tell what a pod has, and what of it the configuration would not give it today."""
    try:
        choice = choose(config, pod.namespace, pod.annotations)
    except AdmissionDenied:
        choice = None
    if not pod.signer_name:
        if choice is None:
            return PodTrust("", (), (), is_misplaced=True)
        domains = tuple(str(each.trust_domain) for each in choice.partners)
        return PodTrust(choice.zone.name, domains, (), is_misplaced=False)
    zone = config.zone_of_signer(pod.signer_name)
    own = str(zone.trust_domain) if zone else ""
    others = tuple(each for each in pod.trusts if each != own)
    allowed = {str(each.trust_domain) for each in config.partners_of(pod.namespace)}
    rule = config.rule_for(pod.namespace)
    return PodTrust(
        zone=zone.name if zone else "",
        trusts=others,
        excess=tuple(each for each in others if each not in allowed),
        is_misplaced=zone is None or rule is None or zone.name not in rule.zones,
    )


def _number(config: PlatformConfig, namespace: str) -> int | None:
    rule = config.rule_for(namespace)
    return None if rule is None else next(n for n, r in enumerate(config.rules, 1) if r is rule)
