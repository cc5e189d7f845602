# SPDX-License-Identifier: Apache-2.0
"""Which processes a process has started, by /proc."""

from __future__ import annotations

from pathlib import Path

__all__ = ("children_of",)


def children_of(parent: int) -> list[int]:
    """The processes that it has started and that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found
