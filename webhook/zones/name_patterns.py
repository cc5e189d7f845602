# SPDX-License-Identifier: Apache-2.0
"""Which namespaces two patterns of names have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from webhook.config import NamePattern

__all__ = ("common", "covers", "is_covered")


def covers(outer: NamePattern, inner: NamePattern) -> bool:
    """Tell whether each name that `inner` matches is one that `outer` matches."""
    if inner.text.endswith("*"):
        return outer.text.endswith("*") and inner.text.startswith(outer.text[:-1])
    return outer.matches(inner.text)


def is_covered(inner: NamePattern, outers: Iterable[NamePattern]) -> bool:
    """Tell whether one of several patterns covers a pattern."""
    return any(covers(outer, inner) for outer in outers)


def common(
    first: Iterable[NamePattern], second: Iterable[NamePattern], *, without: Iterable[NamePattern]
) -> tuple[NamePattern, ...]:
    """The patterns of the names that match on both sides.

    Args:
        first: Patterns.
        second: Patterns.
        without: What they cover is left out.

    Returns:
        Each once, in the order of `first`; none that another one of them covers.
    """
    seconds, gone = tuple(second), tuple(without)
    pairs = ((one, other) for one in first for other in seconds)
    narrow = [one if covers(other, one) else other for one, other in pairs if _meet(one, other)]
    found = tuple(dict.fromkeys(each for each in narrow if not is_covered(each, gone)))
    return tuple(
        each for each in found if not is_covered(each, (one for one in found if one != each))
    )


def _meet(one: NamePattern, other: NamePattern) -> bool:
    return covers(one, other) or covers(other, one)
