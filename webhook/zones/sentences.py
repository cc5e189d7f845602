# SPDX-License-Identifier: Apache-2.0
"""What all writers say alike about zones, partners and groups of namespaces; texts are escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhook.zones.drift import fingerprint
from webhook.zones.graph import Reach
from webhook.zones.wording import counted, listed, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from webhook.config import NamePattern, Partner, Zone
    from webhook.zones.census import NamespaceCensus
    from webhook.zones.graph import Ask, Graph, Group

__all__ = (
    "REMARKS",
    "ask_text",
    "bundle_text",
    "group_text",
    "injection_text",
    "place_text",
    "reach_text",
    "signer_text",
    "zones_text",
)

REMARKS = {
    Reach.OWN: "its own zone",
    Reach.BOTH: "where pods of both ask",
    Reach.IF_TRUSTED: "where pods ask, when it trusts this zone",
    Reach.ONE_SIDED: "may be trusted, and does not trust back",
    Reach.TRUSTED_ONLY: "may trust this zone, which does not trust back",
    Reach.NEVER: "",
}
"""What has to be said of each kind of reach."""


def signer_text(zone: Zone) -> str:
    """Who signs for a zone."""
    if zone.external_signer:
        return f"signed by {zone.external_signer}"
    return "our own authorities"


def bundle_text(partner: Partner) -> str:
    """Where a partner's bundle comes from."""
    if partner.federated is not None and partner.federated.endpoint is not None:
        return f"from {shown(partner.federated.endpoint.url)}"
    if partner.bundle is None:
        return "its zone's own bundle"
    return "sha256 " + listed(fingerprint(each) for each in partner.bundle.authorities)


def group_text(group: Group) -> str:
    """The namespaces of a group, by their names."""
    return _patterns(group.names) if group.names else "none: earlier rules took them"


def zones_text(group: Group) -> str:
    """The zones of a group's pods, the default first."""
    first, *others = group.rule.zones
    return f"{first} (or {', '.join(others)})" if others else first


def injection_text(group: Group) -> str:
    """Which pods are injected."""
    return "all pods" if group.rule.injects_all else "pods that ask"


def ask_text(graph: Graph, ask: Ask) -> str:
    """A partner that may be asked for, and where."""
    zone = graph.zone_of(ask.partner)
    what = f"{ask.partner.name} ({'zone ' + zone.name if zone else ask.partner.trust_domain})"
    return what if ask.is_everywhere else f"{what} in {_patterns(ask.names)}"


def place_text(place: NamespaceCensus) -> str:
    """A namespace of the cluster, and what its pods have."""
    if not place.injected:
        return f"{shown(place.name)}: no injected pods"
    zones = listed(f"{count} in {name or 'NO ZONE'}" for name, count in place.zones.items())
    trusts = listed(f"{shown(domain)} ({count})" for domain, count in place.trusts.items())
    told = f"{shown(place.name)}: {counted(place.injected, 'pod')}, {zones}"
    return f"{told}; also trust {trusts}" if trusts else told


def reach_text(graph: Graph, zone: Zone) -> tuple[list[str], list[str]]:
    """Whom workloads of a zone can reach, and whom they cannot, with remarks."""
    found = [(name, graph.reach(zone, domain)) for domain, name in graph.domains.items()]
    can = [_remarked(name, reach) for name, reach in found if reach.can_connect]
    cannot = [_remarked(name, reach) for name, reach in found if not reach.can_connect]
    return can, cannot


def _remarked(name: str, reach: Reach) -> str:
    remark = REMARKS[reach]
    return f"{name} ({remark})" if remark else name


def _patterns(patterns: Iterable[NamePattern]) -> str:
    return listed(each.text for each in patterns)
