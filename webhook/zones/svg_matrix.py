# SPDX-License-Identifier: Apache-2.0
"""The table of the SVG picture: who can reach whom, a mark for each pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from webhook.zones.graph import Reach
from webhook.zones.svg_element import add, box, colour, hover, text

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from webhook.zones.graph import Graph

__all__ = ("add_matrix", "matrix_height")

CELL: Final = 30.0
_LEGEND: Final = {
    Reach.OWN: "the same zone",
    Reach.BOTH: "can connect, where pods of both ask",
    Reach.IF_TRUSTED: "can connect, where pods ask and the partner trusts the zone",
    Reach.ONE_SIDED: "cannot: the row may trust the column, which does not trust back",
    Reach.TRUSTED_ONLY: "cannot: the column may trust the row, which does not trust back",
    Reach.NEVER: "cannot: neither may have the other's bundle",
}
_MARKS: Final = {
    Reach.OWN: ("M-4,0 L-1,3 L5,-4", "#ffffff"),
    Reach.BOTH: ("M-4,0 L-1,3 L5,-4", "#15803d"),
    Reach.IF_TRUSTED: ("M-4,0 L-1,3 L5,-4", "#b45309"),
    Reach.ONE_SIDED: ("M-5,0 L5,0 M1,-4 L5,0 L1,4", "#94a3b8"),
    Reach.TRUSTED_ONLY: ("M5,0 L-5,0 M-1,-4 L-5,0 L-1,4", "#94a3b8"),
    Reach.NEVER: ("M-3,-3 L3,3 M3,-3 L-3,3", "#cbd5e1"),
}
_CLASSES: Final = {Reach.OWN: "own", Reach.BOTH: "both", Reach.IF_TRUSTED: "maybe"}


def matrix_height(graph: Graph) -> float:
    """How high the table is."""
    rows = _labels(graph) + CELL * len(graph.zones)
    return max(rows, 44.0 + 26.0 * len(_used(graph)))


def add_matrix(parent: Element, graph: Graph, *, x: float, y: float) -> None:
    """Add the table.

    Args:
        parent: Where.
        graph: What it is about.
        x: Of its left side.
        y: Of its upper side.
    """
    text(parent, x, y + 12, "WHO CAN REACH WHOM", style="heading")
    columns = graph.domains
    left, top = x + _names(graph), y + _labels(graph)
    for number, (domain, name) in enumerate(columns.items()):
        place = f"translate({left + CELL * (number + 0.6):g} {top - 8:g}) rotate(-40)"
        text(parent, 0, 0, name, style="soft", width=90, transform=place)
        for row, zone in enumerate(graph.zones):
            reach = graph.reach(zone, domain)
            cell = _mark(parent, left + CELL * number, top + CELL * row, reach, row)
            hover(cell, f"{zone.name} and {name}: {_LEGEND[reach]}")
    for row, zone in enumerate(graph.zones):
        foot = top + CELL * row + CELL / 2 + 4
        text(parent, left - 10, foot, zone.name, width=140, text_anchor="end")
    _legend(parent, graph, left + CELL * len(columns) + 72, y + 34)


def _mark(parent: Element, x: float, y: float, reach: Reach, row: int | None) -> Element:
    group = add(parent, "g")
    place = (x + 2, y + 2, CELL - 4, CELL - 4)
    if row is not None and reach is Reach.OWN:
        box(group, *place, rx=6, fill=colour(row))
    else:
        box(group, *place, rx=6, class_=_CLASSES.get(reach, "never"))
    path, stroke = _MARKS[reach]
    middle = f"translate({x + CELL / 2:g} {y + CELL / 2:g})"
    line = {"stroke_width": 2, "stroke_linecap": "round", "stroke_linejoin": "round"}
    add(group, "path", d=path, transform=middle, fill="none", stroke=stroke, **line)
    return group


def _names(graph: Graph) -> float:
    """How wide the names of the rows are."""
    return min(150.0, 7 * max(len(zone.name) for zone in graph.zones) + 12)


def _labels(graph: Graph) -> float:
    """How high the headings of the columns are."""
    return min(104.0, 40 + 4.2 * max(map(len, graph.domains.values())))


def _used(graph: Graph) -> list[Reach]:
    found = {graph.reach(zone, domain) for zone in graph.zones for domain in graph.domains}
    return [reach for reach in _LEGEND if reach in found]


def _legend(parent: Element, graph: Graph, x: float, y: float) -> None:
    for number, reach in enumerate(_used(graph)):
        _mark(parent, x, y + 26 * number, reach, None)
        text(parent, x + CELL + 8, y + 26 * number + CELL / 2 + 4, _LEGEND[reach], style="soft")
