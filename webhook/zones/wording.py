# SPDX-License-Identifier: Apache-2.0
"""Texts of others on one line, and lists that stay short."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("counted", "listed", "shortened", "shown")

_MAX_SHOWN = 80
_MAX_LISTED = 8


def shown(text: str, *, limit: int = _MAX_SHOWN) -> str:
    """A text as it may stand in a terminal: no control characters, no change of direction."""
    plain = "".join(each if each.isprintable() else _escaped(each) for each in text)
    return shortened(plain, limit)


def shortened(text: str, limit: int) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def listed(texts: Iterable[str], *, limit: int = _MAX_LISTED) -> str:
    """Texts with commas; of many, the first ones and how many more."""
    found = [shown(each) for each in texts]
    more = len(found) - limit
    return ", ".join(found[:limit]) + (f" and {more} more" if more > 0 else "")


def counted(number: int, word: str) -> str:
    """`1 pod`, `2 pods`."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
