# SPDX-License-Identifier: Apache-2.0
"""The picture as text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhook.zones import sentences

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from webhook.zones.graph import Graph, Group
    from webhook.zones.picture import Picture

__all__ = ("reach_lines", "to_text")


def to_text(picture: Picture) -> str:
    """Write it; ends with a newline."""
    sections = {
        "Zones of trust": _zones(picture.graph),
        "Partners": _partners(picture.graph),
        "Namespaces (the first rule that names one decides)": _groups(picture),
        "Who can reach whom (between trust domains where a policy rule names them, too)": (
            reach_lines(picture.graph)
        ),
        "Found": _findings(picture),
    }
    written = (
        "\n".join([heading, *(f"  {line}".rstrip() for line in lines)])
        for heading, lines in ((heading, list(lines)) for heading, lines in sections.items())
        if lines
    )
    return "\n\n".join(written) + "\n"


def reach_lines(graph: Graph) -> Iterator[str]:
    """For each zone: whom its workloads can reach, and whom they cannot."""
    for zone in graph.zones:
        can, cannot = sentences.reach_text(graph, zone)
        yield zone.name
        yield from (f"  can reach     {line}" for line in can)
        if cannot:
            yield f"  CANNOT reach  {', '.join(cannot)}"


def _zones(graph: Graph) -> Iterator[str]:
    yield from _columns(
        (zone.name, str(zone.trust_domain), zone.signer_name, sentences.signer_text(zone))
        for zone in graph.zones
    )


def _partners(graph: Graph) -> Iterator[str]:
    rows = []
    for partner in graph.config.partners.values():
        zone = graph.zone_of(partner)
        source = f"zone {zone.name} of this cluster" if zone else sentences.bundle_text(partner)
        rows.append((partner.name, str(partner.trust_domain), source))
    yield from _columns(rows)


def _groups(picture: Picture) -> Iterator[str]:
    groups = picture.graph.groups
    rows = [
        (
            f"{group.number}",
            sentences.group_text(group),
            f"zone {sentences.zones_text(group)}",
            sentences.injection_text(group),
        )
        for group in groups
    ]
    for group, row in zip(groups, _columns(rows), strict=True):
        yield row
        yield from (f"     {line}" for line in _details(picture, group))
    outside = picture.places_of(None)
    if outside:
        yield "-  without a rule: no certificates"
        yield from (f"     {sentences.place_text(place)}" for place in outside)


def _details(picture: Picture, group: Group) -> Iterator[str]:
    if group.asks:
        asked = ", ".join(sentences.ask_text(picture.graph, ask) for ask in group.asks)
        yield f"may ask for: {asked}"
    yield from map(sentences.place_text, picture.places_of(group.number))


def _findings(picture: Picture) -> Iterator[str]:
    yield from _columns((each.verdict, each.subject, each.message) for each in picture.findings)


def _columns(rows: Iterable[tuple[str, ...]]) -> list[str]:
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
