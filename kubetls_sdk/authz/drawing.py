# SPDX-License-Identifier: Apache-2.0
"""Who may call what, as one SVG picture without scripts, fonts or links.

Rules:
    1. Callers on the left, each once; to the right of it a line for each thing that it may, or may
       not, do. Nothing crosses, so a large policy is long and not tangled.
    2. Every text is escaped; one that is too long is cut, and whole in its tooltip.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from kubetls_sdk.authz.graph import arrows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubetls_sdk.authz.graph import Arrow
    from kubetls_sdk.authz.policy_set import PolicySet

__all__ = ("svg",)

_ROW, _BOX, _GAP = 32, 22, 12
_CALLER_X, _LINE_X, _TARGET_X, _END_X = 10, 360, 760, 1150
_CHARACTER = 7.3
_STYLE = (
    "text{font:12px ui-monospace,monospace;fill:#1b1f24}"
    "rect{fill:#f6f8fa;stroke:#57606a}.back{fill:#fff;stroke:none}"
    "path{stroke:#1a7f37;fill:none;stroke-width:1.5}"
    ".deny path,.deny rect{stroke:#b00020}.deny text{fill:#b00020}"
    ".shadow path{stroke-dasharray:5 4}"
)


def svg(policies: PolicySet) -> str:
    """Draw the picture: deny rules red, shadow policies dashed."""
    ordered = sorted(arrows(policies), key=lambda arrow: (arrow.caller, arrow.target, arrow.rule))
    parts: list[str] = []
    y = _GAP
    for caller, group in groupby(ordered, key=lambda arrow: arrow.caller):
        rows = list(group)
        height = len(rows) * _ROW - (_ROW - _BOX)
        parts += _box(_CALLER_X, y, _LINE_X - _CALLER_X, height, caller)
        for index, arrow in enumerate(rows):
            parts += _row(arrow, y + index * _ROW)
        y += len(rows) * _ROW + _GAP
    size = f'width="{_END_X + _CALLER_X}" height="{y}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><title>Policy</title>'
    back = f'<style>{_STYLE}</style><rect class="back" {size}/>'
    return "\n".join([head, back, *parts, "</svg>"]) + "\n"


def _row(arrow: Arrow, y: int) -> Iterator[str]:
    kinds = [name for name, on in (("deny", arrow.is_deny), ("shadow", arrow.is_shadow)) if on] or [
        "allow"
    ]
    yield f'<g class="{" ".join(kinds)}">'
    middle = y + _BOX // 2
    yield f'<path d="M{_LINE_X} {middle}H{_TARGET_X}m-7 -4l7 4l-7 4"/>'
    yield _text(_LINE_X + 8, middle - 4, _TARGET_X - _LINE_X - 24, arrow.label)
    yield from _box(_TARGET_X, y, _END_X - _TARGET_X, _BOX, arrow.target)
    yield "</g>"


def _box(x: int, y: int, width: int, height: int, text: str) -> Iterator[str]:
    yield f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="4"/>'
    yield _text(x + 8, y + 15, width - 16, text)


def _text(x: int, y: int, width: int, text: str) -> str:
    shown = "".join(char if char.isprintable() else "\ufffd" for char in text)
    most = int(width / _CHARACTER)
    short = shown if len(shown) <= most else f"{shown[: most - 1]}…"
    tooltip = f"<title>{escape(shown)}</title>" if short != shown else ""
    return f'<text x="{x}" y="{y}">{escape(short)}{tooltip}</text>'
