# SPDX-License-Identifier: Apache-2.0
"""The usual case of a trie, as nested dictionaries that end in a decision.

Rules:
    1. Only certain answers: where a lookup would have to follow two ways, collect on the way or
       look at conditions, the table has a dead end, and the caller takes the long way.
    2. `None` is the key of the answer, `*` that of the one-segment wildcard. A request's own
       segment `*` finds the wildcard, which is right: it fits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubetls_sdk.authz.branch import Branch
    from kubetls_sdk.authz.trie import Node

__all__ = ("Table", "short_way")

Table = dict[Any, Any]

_DEAD_END: Table = {object(): None}  # True, and nothing a request can say is in it.


def short_way(node: Node[Branch]) -> Table:
    """Make the table of a trie."""
    if node.forks:
        return _DEAD_END
    table: Table = {segment: short_way(child) for segment, child in node.literals.items()}
    if node.star is not None:
        table["*"] = short_way(node.star)
        table.setdefault("", _DEAD_END)  # A wildcard never fits an empty segment.
    if len(node.here) == 1 and not node.here[0].conditions:
        table[None] = node.here[0].decision
    return table or _DEAD_END
