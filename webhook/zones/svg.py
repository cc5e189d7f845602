# SPDX-License-Identifier: Apache-2.0
"""The picture as one SVG file: zones, namespaces and partners, and who can reach whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from xml.etree.ElementTree import Element, indent, tostring

from webhook.zones import sentences
from webhook.zones.svg_element import STYLE, add, box, colour, curve, hover, text
from webhook.zones.svg_layout import Layout
from webhook.zones.svg_matrix import add_matrix, matrix_height
from webhook.zones.wording import counted

if TYPE_CHECKING:
    from webhook.config import Partner, Zone
    from webhook.zones.graph import Group
    from webhook.zones.picture import Picture
    from webhook.zones.svg_layout import Card, Line

__all__ = ("to_svg",)

_MARGIN: Final = 40.0
_TOP: Final = 120.0
_COLUMNS: Final = ((40.0, 260.0), (450.0, 300.0), (900.0, 260.0))
_HEADINGS: Final = ("ZONES OF TRUST", "NAMESPACES, BY RULE", "PARTNERS")
_CARD: Final = 76.0
_PARTNER: Final = "#d97706"
_INSET: Final = 18.0
_LINES: Final[dict[str, dict[str, Any]]] = {
    "identity": {"stroke_width": 2.5},
    "choice": {"stroke_width": 1.5, "stroke_opacity": 0.55},
    "ask": {"stroke_width": 1.8, "stroke_dasharray": "5 4"},
}


def to_svg(picture: Picture) -> str:
    """Write it; ends with a newline."""
    graph = picture.graph
    layout = Layout.of(graph, _COLUMNS, top=_TOP, height=_CARD)
    matrix = layout.bottom + 48
    width = _width(picture)
    height = matrix + matrix_height(graph) + _MARGIN
    size = {"width": f"{width:g}", "height": f"{height:g}"}
    view = f"0 0 {width:g} {height:g}"
    root = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **size, "viewBox": view})
    root.set("role", "img")
    hover(root, "Zones of trust")
    add(root, "style").text = STYLE
    add(root, "rect", class_="page", width=width, height=height)
    _head(root, picture)
    _draw(root, picture, layout)
    add(root, "path", d=f"M40,{matrix - 26:g} H{width - _MARGIN:g}", class_="rule")
    add_matrix(root, graph, x=_MARGIN, y=matrix)
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def _width(picture: Picture) -> float:
    columns = len(picture.graph.domains)
    of_cards = sum(_COLUMNS[2]) if picture.graph.outside else sum(_COLUMNS[1])
    of_matrix = 40 + 150 + 30 * columns + 56 + 420
    return max(of_cards, of_matrix, 860.0) + _MARGIN


def _head(root: Element, picture: Picture) -> None:
    graph = picture.graph
    text(root, _MARGIN, 48, "Zones of trust", style="title")
    told = f"{counted(len(graph.zones), 'zone')}, {counted(len(graph.groups), 'rule')}"
    if graph.outside:
        told += f", {counted(len(graph.outside), 'partner')}"
    if picture.places is not None:
        pods = sum(place.injected for place in picture.places)
        told += f", {counted(len(picture.places), 'namespace')}, {counted(pods, 'injected pod')}"
    text(
        root,
        _MARGIN,
        70,
        f"{told}. Solid line: gets its identity from. Dashed: may ask for the bundle of.",
    )
    for (x, _), heading in zip(_COLUMNS, _HEADINGS, strict=True):
        if heading != _HEADINGS[2] or graph.outside:
            text(root, x, _TOP - 16, heading, style="heading")


def _draw(root: Element, picture: Picture, layout: Layout) -> None:
    graph = picture.graph
    for line in layout.lines:
        _line(root, layout, line)
    for number, zone in enumerate(graph.zones):
        _zone(root, layout.cards[f"z{number}"], zone, colour(number))
    for group in graph.groups:
        if group.names:
            _group(root, layout.cards[f"g{group.number}"], picture, group)
    for number, partner in enumerate(graph.outside):
        _partner(root, layout.cards[f"p{number}"], partner)


def _line(root: Element, layout: Layout, line: Line) -> None:
    near, far = layout.ends(line)
    stroke = _PARTNER if line.other.startswith("p") else colour(int(line.other[1:]))
    if line.kind == "ask":
        curve(root, near, far, stroke=stroke, **_LINES[line.kind])
        _tip(root, far, stroke, towards=1 if far[0] > near[0] else -1)
    else:
        curve(root, far, near, stroke=stroke, **_LINES[line.kind])
        _tip(root, near, stroke, towards=1)
    if line.label:
        _label(root, near, f"in {line.label}", is_right=far[0] > near[0])


def _tip(root: Element, place: tuple[float, float], fill: str, *, towards: int) -> None:
    x, y = place
    add(root, "path", d=f"M{x:g},{y:g} l{-8 * towards},-4.5 v9 z", fill=fill)


def _label(root: Element, place: tuple[float, float], written: str, *, is_right: bool) -> None:
    x, y = place
    width = min(110.0, len(written) * 6.1 + 10)
    start = x + 10 if is_right else x - 10 - width
    box(root, start, y - 9, width, 17, rx=8, class_="halo")
    text(root, start + width / 2, y + 4, written, style="soft", width=104, text_anchor="middle")


def _card(root: Element, card: Card, stroke: str, fill: str) -> Element:
    group = add(root, "g")
    box(group, card.x, card.y, card.width, card.height, class_="card")
    box(group, card.x, card.y, 6, card.height, rx=3, fill=stroke)
    box(group, card.x, card.y, card.width, card.height, fill=fill, fill_opacity=0.05, stroke=stroke)
    return group


def _written(group: Element, card: Card, *lines: tuple[str, str]) -> None:
    start = card.middle - 19 * (len(lines) - 1) / 2 + 4
    for number, (written, style) in enumerate(lines):
        place = start + 19 * number
        text(group, card.x + _INSET, place, written, style=style, width=card.width - 2 * _INSET)


def _zone(root: Element, card: Card, zone: Zone, stroke: str) -> None:
    group = _card(root, card, stroke, stroke)
    domain = (str(zone.trust_domain), "mono")
    _written(group, card, (zone.name, "name"), domain, (sentences.signer_text(zone), "soft"))


def _group(root: Element, card: Card, picture: Picture, group: Group) -> None:
    drawn = _card(root, card, "#94a3b8", "#94a3b8")
    about = f"rule {group.number}: {sentences.injection_text(group)}"
    lines = [(sentences.group_text(group), "name"), (about, "soft")]
    if picture.places is not None:
        places = picture.places_of(group.number)
        pods = sum(place.injected for place in places)
        here = f"{counted(len(places), 'namespace')}, {counted(pods, 'injected pod')}"
        lines.append((here, "soft"))
        hover(drawn, "; ".join(sentences.place_text(place) for place in places) or "none here")
    _written(drawn, card, *lines)


def _partner(root: Element, card: Card, partner: Partner) -> None:
    group = _card(root, card, _PARTNER, _PARTNER)
    domain = (str(partner.trust_domain), "mono")
    source = (sentences.bundle_text(partner), "soft")
    _written(group, card, (partner.name, "name"), domain, source)
