# SPDX-License-Identifier: Apache-2.0
"""Where cards and lines of the SVG picture are: three columns, zones, namespaces, partners. Pure.

Rules:
    1. Lines run between neighbouring columns only, so that none crosses a card.
    2. A card is as high as its texts and its lines need; what asks for one bundle arrives at one
       place, and no other lines of a card share one.
    3. Rules stay in their order; zones and partners are near the rules that they belong to.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from webhook.zones.graph import Graph

__all__ = ("Card", "Layout", "Line")

_PORT: Final = 20.0
_GAP: Final = 18.0


@dataclass(slots=True)
class Card:
    """A card.

    Attributes:
        key: `z0`, `g1` or `p0`.
        x: Of its left side; `width` wide.
        y: Of its upper side; `height` high.
    """

    key: str
    x: float
    width: float
    height: float
    y: float = 0.0

    @property
    def middle(self) -> float:
        """Of its height."""
        return self.y + self.height / 2

    @property
    def bottom(self) -> float:
        """Its lower side."""
        return self.y + self.height


@dataclass(frozen=True, slots=True)
class Line:
    """A line from a group to a zone or a partner.

    Attributes:
        group: Key of the group's card.
        other: Key of the zone's or the partner's.
        kind: `identity`, `choice` or `ask`.
        label: What is written at the group's end.
    """

    group: str
    other: str
    kind: str
    label: str = ""


@dataclass(slots=True)
class Layout:
    """Cards in columns, and the lines between them.

    Attributes:
        cards: By key.
        lines: All of them.
    """

    cards: dict[str, Card] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    _ports: dict[tuple[Line, str], float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, graph: Graph, columns: Sequence[tuple[float, float]], *, top: float, height: float
    ) -> Layout:
        """Lay a graph out.

        Args:
            graph: It.
            columns: Left side and width of the columns of zones, namespaces and partners.
            top: Upper side of all columns.
            height: The least of a card.
        """
        layout = cls(lines=_lines(graph))
        groups = [f"g{group.number}" for group in graph.groups if group.names]
        zones = [f"z{number}" for number in range(len(graph.zones))]
        partners = [f"p{number}" for number in range(len(graph.outside))]
        for keys, (x, width) in zip((zones, groups, partners), columns, strict=True):
            for key in keys if keys is groups else layout._near(keys, groups):
                high = max(height, _PORT * (layout._most_lines(key) + 1))
                layout.cards[key] = Card(key, x, width, high)
        layout._stack((zones, groups, partners), top)
        layout._place_ports()
        return layout

    @property
    def bottom(self) -> float:
        """Below all cards."""
        return max(card.bottom for card in self.cards.values())

    def ends(self, line: Line) -> tuple[tuple[float, float], tuple[float, float]]:
        """Where a line touches the group's card, and the other one."""
        group, other = self.cards[line.group], self.cards[line.other]
        is_right = other.x > group.x
        sides = (group.x + group.width, other.x) if is_right else (group.x, other.x + other.width)
        heights = (self._ports[line, line.group], self._ports[line, line.other])
        return (sides[0], heights[0]), (sides[1], heights[1])

    def _near(self, keys: list[str], groups: list[str]) -> list[str]:
        """Sort by where the groups are that the lines go to; identities weigh most."""
        rank = {key: number for number, key in enumerate(groups)}

        def place(key: str) -> tuple[float, int]:
            mine = [line for line in self.lines if line.other == key]
            strong = [line for line in mine if line.kind == "identity"] or mine
            ranks = [rank[line.group] for line in strong]
            return (sum(ranks) / len(ranks) if ranks else len(groups), keys.index(key))

        return sorted(keys, key=place)

    def _most_lines(self, key: str) -> int:
        """How many lines the fuller side of a card has."""
        sides: dict[str, set[str]] = defaultdict(set)
        for line in self.lines:
            if key in (line.group, line.other):
                sides[line.other[0] if key == line.group else "g"].add(_place(line, key))
        return max(map(len, sides.values()), default=0)

    def _stack(self, columns: Iterable[list[str]], top: float) -> None:
        stacks = [[card for key, card in self.cards.items() if key in keys] for keys in columns]
        heights = [sum(card.height + _GAP for card in stack) for stack in stacks]
        for stack, height in zip(stacks, heights, strict=True):
            y = top + (max(heights) - height) / 2
            for card in stack:
                card.y = y
                y += card.height + _GAP

    def _place_ports(self) -> None:
        sides: dict[tuple[str, str], dict[str, list[Line]]] = defaultdict(dict)
        for line in self.lines:
            for key, side in ((line.group, line.other[0]), (line.other, "g")):
                sides[key, side].setdefault(_place(line, key), []).append(line)
        for (key, _), places in sides.items():
            card = self.cards[key]
            ordered = sorted(places.values(), key=lambda lines: self._far(lines, key))
            for number, lines in enumerate(ordered, start=1):
                y = card.y + card.height * number / (len(ordered) + 1)
                self._ports |= {(line, key): y for line in lines}

    def _far(self, lines: list[Line], key: str) -> tuple[float, str]:
        others = [self.cards[each.other if key == each.group else each.group] for each in lines]
        return sum(card.middle for card in others) / len(others), lines[0].kind


def _place(line: Line, key: str) -> str:
    """What lines at the same place of a card have in common."""
    if key == line.other:
        return "ask" if line.kind == "ask" else line.group
    return f"{line.kind} {line.other}"


def _lines(graph: Graph) -> list[Line]:
    zones = {zone.name: f"z{number}" for number, zone in enumerate(graph.zones)}
    partners = {each.name: f"p{number}" for number, each in enumerate(graph.outside)}
    found = []
    for group in graph.groups:
        key = f"g{group.number}"
        for number, name in enumerate(group.rule.zones if group.names else ()):
            found.append(Line(key, zones[name], "choice" if number else "identity"))
        for ask in group.asks:
            zone = graph.zone_of(ask.partner)
            other = zones[zone.name] if zone else partners[ask.partner.name]
            where = "" if ask.is_everywhere else ", ".join(each.text for each in ask.names)
            found.append(Line(key, other, "ask", where))
    return list(dict.fromkeys(found))
