# SPDX-License-Identifier: Apache-2.0
"""The picture as a Mermaid flowchart, as GitHub and MkDocs Material draw it.

Rules:
    1. Names of nodes are numbers of ours; every other text is a quoted label in which all but
       letters, digits, space, `.`, `,`, `-`, `/`, `(` and `)` is written as a numbered entity.
    2. A zone is a box around its namespaces. Dashed: may ask for the bundle of. Thick: zones whose
       pods can connect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhook.zones import sentences
from webhook.zones.graph import Reach
from webhook.zones.wording import counted, listed, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from webhook.zones.graph import Graph, Group
    from webhook.zones.picture import Picture

__all__ = ("escaped", "to_mermaid")

_PLAIN = frozenset(" .,-/()abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def to_mermaid(picture: Picture) -> str:
    """Write it; ends with a newline."""
    graph = picture.graph
    groups = [group for group in graph.groups if group.names]
    lines = [
        "flowchart LR",
        *(line for number in range(len(graph.zones)) for line in _zone(picture, number)),
        *(_partner(graph, number) for number in range(len(graph.outside))),
        *(line for group in groups for line in _edges(graph, group)),
        *_connections(graph),
        "classDef zone fill:#eef2ff,stroke:#4f46e5,color:#1e1b4b",
        "classDef names fill:#ffffff,stroke:#94a3b8,color:#0f172a",
        "classDef partner fill:#fef3c7,stroke:#d97706,color:#451a03",
        f"class {','.join(f'z{number}' for number in range(len(graph.zones)))} zone",
    ]
    return "\n".join([lines[0], *(f"  {line}" for line in lines[1:])]) + "\n"


def escaped(text: str) -> str:
    """A text inside of a label."""
    return "".join(each if each in _PLAIN else f"#{ord(each)};" for each in shown(text))


def _zone(picture: Picture, number: int) -> Iterator[str]:
    """A box with the namespaces whose pods are of the zone unless they choose another one."""
    zone = picture.graph.zones[number]
    title = f"zone {zone.name} ({zone.trust_domain})"
    if zone.external_signer:
        title += f", {sentences.signer_text(zone)}"
    yield f"subgraph z{number}[{_label(title)}]"
    for group in picture.graph.groups:
        if group.names and group.rule.zones[0] == zone.name:
            yield f"  {_group(picture, group)}"
    yield "end"


def _group(picture: Picture, group: Group) -> str:
    lines = [sentences.group_text(group)]
    if not group.rule.injects_all:
        lines.append("only pods that ask")
    if picture.places is not None:
        places = picture.places_of(group.number)
        pods = sum(place.injected for place in places)
        lines.append(f"{counted(len(places), 'namespace')}, {counted(pods, 'injected pod')}")
    return f"g{group.number}[{_label(*lines)}]:::names"


def _partner(graph: Graph, number: int) -> str:
    partner = graph.outside[number]
    label = _label(f"partner {partner.name}", str(partner.trust_domain))
    return f"p{number}{{{{{label}}}}}:::partner"


def _edges(graph: Graph, group: Group) -> Iterator[str]:
    nodes = {zone.name: f"z{number}" for number, zone in enumerate(graph.zones)}
    outside = {partner.name: f"p{number}" for number, partner in enumerate(graph.outside)}
    for name in group.rule.zones[1:]:
        yield f"{nodes[name]} -->|{_label('identity, if chosen')}| g{group.number}"
    for ask in group.asks:
        zone = graph.zone_of(ask.partner)
        node = nodes[zone.name] if zone else outside[ask.partner.name]
        where = "" if ask.is_everywhere else f" in {listed(each.text for each in ask.names)}"
        yield f"g{group.number} -.->|{_label(f'may trust{where}')}| {node}"


def _connections(graph: Graph) -> Iterator[str]:
    """Zones that can connect are joined; those that are not joined cannot."""
    for number, zone in enumerate(graph.zones):
        for other in range(number + 1, len(graph.zones)):
            if graph.reach(zone, graph.zones[other].trust_domain) is Reach.BOTH:
                yield f"z{number} <==>|{_label('can connect')}| z{other}"


def _label(*lines: str) -> str:
    return f'"{"<br/>".join(escaped(line) for line in lines)}"'
