# SPDX-License-Identifier: Apache-2.0
"""Elements of an SVG picture: boxes, lines and texts in a few styles.

Rules:
    1. The tree is an XML tree, never pasted text: whatever a name contains, it stays a text.
    2. Nothing is loaded: no fonts, no scripts, no links, no images.
"""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import Element, SubElement

from webhook.zones.wording import shortened, shown

__all__ = ("COLOURS", "STYLE", "add", "box", "colour", "curve", "hover", "text")

COLOURS: Final = (
    "#4f46e5", "#0d9488", "#e11d48", "#0284c7", "#7c3aed", "#65a30d",
    "#db2777", "#0891b2", "#ea580c", "#059669", "#9333ea", "#475569",
)  # fmt: skip
"""One for each zone, in order; then again from the start."""

STYLE: Final = """
text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  font-size: 12px; fill: #334155; }
.title { font-size: 20px; font-weight: 700; fill: #0f172a; }
.heading { font-size: 11px; font-weight: 700; letter-spacing: 1.2px; fill: #64748b; }
.name { font-size: 14px; font-weight: 700; fill: #0f172a; }
.mono { font-family: ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace;
  font-size: 11px; }
.soft { fill: #64748b; font-size: 11px; }
.page { fill: #ffffff; }
.card { fill: #ffffff; stroke: #cbd5e1; }
.halo { fill: #ffffff; fill-opacity: 0.9; }
.rule { stroke: #e2e8f0; }
.own { fill: #475569; }
.both { fill: #dcfce7; }
.maybe { fill: #fef3c7; }
.never { fill: #f8fafc; }
@media (prefers-color-scheme: dark) {
  text { fill: #cbd5e1; }
  .title, .name { fill: #f1f5f9; }
  .heading, .soft { fill: #94a3b8; }
  .page { fill: #0f172a; }
  .card { fill: #1e293b; stroke: #475569; }
  .halo { fill: #0f172a; }
  .rule { stroke: #334155; }
  .never { fill: #1e293b; }
}
"""
_WIDTHS: Final = {"name": 8.4, "mono": 6.7, "soft": 6.1, "title": 11.5, "heading": 9.0, "": 6.7}


def add(parent: Element, tag: str, **attributes: object) -> Element:
    """Add an element; `_` in names of attributes is `-`, and numbers are rounded."""
    written = {
        key.rstrip("_").replace("_", "-"): f"{round(value, 1):g}"
        if isinstance(value, float)
        else str(value)
        for key, value in attributes.items()
    }
    return SubElement(parent, tag, written)


def text(
    parent: Element,
    x: float,
    y: float,
    written: str,
    *,
    style: str = "",
    width: float = 0,
    **more: object,
) -> Element:
    """Add a text.

    Args:
        parent: Where.
        x: Of its start.
        y: Of its foot.
        written: It, as somebody else gave it.
        style: Name of a class of `STYLE`.
        width: What it has to fit in, in pixels; a longer one is cut, and shown whole on hovering.
        more: Further attributes.
    """
    whole = shown(written, limit=400)
    fitting = shortened(whole, max(3, int(width / _WIDTHS[style]))) if width else whole
    element = add(parent, "text", x=x, y=y, class_=style, **more)
    element.text = fitting
    if fitting != whole:
        hover(element, whole)
    return element


def hover(element: Element, written: str) -> None:
    """Add what is shown when the pointer is over an element."""
    add(element, "title").text = shown(written, limit=400)


def box(
    parent: Element, x: float, y: float, width: float, height: float, **more: object
) -> Element:
    """Add a rectangle with round corners."""
    return add(parent, "rect", x=x, y=y, width=width, height=height, **{"rx": 8, **more})


def curve(
    parent: Element, start: tuple[float, float], end: tuple[float, float], **more: object
) -> Element:
    """Add a line from a card to another, level at both ends."""
    (x1, y1), (x2, y2) = start, end
    middle = (x1 + x2) / 2
    path = f"M{x1:.1f},{y1:.1f} C{middle:.1f},{y1:.1f} {middle:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"
    return add(parent, "path", d=path, **{"fill": "none", "stroke_width": 2, **more})


def colour(number: int) -> str:
    """The colour of a zone."""
    return COLOURS[number % len(COLOURS)]
