# SPDX-License-Identifier: Apache-2.0
"""One line of a demonstration's tables: what ought to happen, and what was seen to happen."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("Case",)


@dataclass(frozen=True, slots=True)
class Case:
    """What happened to somebody.

    Attributes:
        name: Who did what.
        expected: What ought to come of it.
        observed: What came of it, on the wire and in the server's log together.
    """

    name: str
    expected: str
    observed: str

    @property
    def is_ok(self) -> bool:
        """Whether both are the same."""
        return self.expected == self.observed
