# SPDX-License-Identifier: Apache-2.0
"""A trie over segments in which literals, one-segment wildcards and open ends live side by side.

Rules:
    1. A lookup returns every entry whose pattern fits: which one decides is not the trie's matter.
    2. A wildcard never fits an empty segment.
    3. A lookup visits at most the nodes whose prefix fits, so its cost does not grow with rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ("Node",)

T = TypeVar("T")


class Node(Generic[T]):
    """One position in the trie.

    Attributes:
        literals: Children by exact segment.
        star: The child for any one segment.
        here: Entries whose pattern ends here.
        rest: Entries whose pattern ends here with an open end.
        forks: Whether a lookup may have to follow two ways from here, or collect on the way.
    """

    __slots__ = ("forks", "here", "literals", "rest", "star")

    def __init__(self) -> None:
        self.literals: dict[str, Node[T]] = {}
        self.star: Node[T] | None = None
        self.here: tuple[T, ...] = ()
        self.rest: tuple[T, ...] = ()
        self.forks = False

    def insert(self, segments: Sequence[str], entry: T, *, is_prefix: bool = False) -> None:
        """Add an entry under a pattern; `*` is the one-segment wildcard."""
        node = self
        for segment in segments:
            if segment == "*":
                if node.star is None:
                    node.star = Node()
                child = node.star
            else:
                child = node.literals.setdefault(segment, Node())
            node.forks = bool(node.rest or (node.star and node.literals))
            node = child
        if is_prefix:
            node.rest += (entry,)
            node.forks = True
        else:
            node.here += (entry,)

    def find(self, segments: Sequence[str], found: list[T], start: int = 0) -> None:
        """Append every entry whose pattern fits the segments from `start` on."""
        node = self
        for index in range(start, len(segments)):
            if node.rest:
                found += node.rest
            segment = segments[index]
            child = node.literals.get(segment)
            if node.star is not None and segment:
                if child is not None:
                    node.star.find(segments, found, index + 1)
                else:
                    child = node.star
            if child is None:
                return
            node = child
        found += node.rest
        found += node.here

    def __iter__(self) -> Iterator[T]:
        """Every entry below."""
        yield from self.here
        yield from self.rest
        for child in self.literals.values():
            yield from child
        if self.star is not None:
            yield from self.star
