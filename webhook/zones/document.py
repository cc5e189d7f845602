# SPDX-License-Identifier: Apache-2.0
"""The picture as JSON, for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from webhook.zones.drift import fingerprint

if TYPE_CHECKING:
    from webhook.config import Partner, Zone
    from webhook.zones.census import NamespaceCensus
    from webhook.zones.graph import Graph, Group
    from webhook.zones.picture import Picture

__all__ = ("to_json",)


def to_json(picture: Picture) -> str:
    """Write it; ends with a newline."""
    graph = picture.graph
    document = {
        "version": 1,
        "zones": [_zone(graph, zone) for zone in graph.zones],
        "partners": [_partner(graph, each) for each in graph.config.partners.values()],
        "groups": [_group(picture, group) for group in graph.groups],
        "withoutRule": [_place(each) for each in picture.places_of(None)],
        "cluster": picture.places is not None,
        "findings": [asdict(each) for each in picture.findings],
    }
    return json.dumps(document, indent=1) + "\n"


def _zone(graph: Graph, zone: Zone) -> dict[str, Any]:
    return {
        "name": zone.name,
        "trustDomain": str(zone.trust_domain),
        "signerName": zone.signer_name,
        "externalSigner": zone.external_signer,
        "reach": {str(each): graph.reach(zone, each).value for each in graph.domains},
    }


def _partner(graph: Graph, partner: Partner) -> dict[str, Any]:
    zone = graph.zone_of(partner)
    bundle, endpoint = partner.bundle, partner.federated.endpoint if partner.federated else None
    return {
        "name": partner.name,
        "trustDomain": str(partner.trust_domain),
        "zone": zone.name if zone else None,
        "endpoint": endpoint.url if endpoint else None,
        "fingerprints": None if bundle is None else [fingerprint(a) for a in bundle.authorities],
        "namespaces": [each.text for each in partner.namespaces],
    }


def _group(picture: Picture, group: Group) -> dict[str, Any]:
    return {
        "number": group.number,
        "names": [each.text for each in group.names],
        "zones": list(group.rule.zones),
        "modes": [each.value for each in group.rule.modes],
        "injectsAll": group.rule.injects_all,
        "mayAskFor": [
            {
                "partner": ask.partner.name,
                "trustDomain": str(ask.partner.trust_domain),
                "names": [each.text for each in ask.names],
                "isEverywhere": ask.is_everywhere,
            }
            for ask in group.asks
        ],
        "namespaces": [_place(each) for each in picture.places_of(group.number)],
    }


def _place(place: NamespaceCensus) -> dict[str, Any]:
    return {
        "name": place.name,
        "injectedPods": place.injected,
        "zones": dict(place.zones),
        "trusts": dict(place.trusts),
        "misplaced": place.misplaced,
        "excessive": place.excessive,
    }
