# SPDX-License-Identifier: Apache-2.0
"""One measured number with its goal, and the statistics that a noisy machine needs.

Rules:
    1. What is compared runs side by side in one run, in alternating slices; ratios, not rates.
    2. A ratio of slices is reported as its median with the interquartile range, and its goal counts
       as met when it lies inside that range or better.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("Measure", "Spread")


@dataclass(frozen=True, slots=True)
class Spread:
    """The distribution of one number over slices."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Take the quartiles; of fewer than four values the extremes."""
        if len(values) < 4:
            return cls(min(values), statistics.median(values), max(values))
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(low, median, high)

    @classmethod
    def of_ratios(cls, ours: Sequence[float], theirs: Sequence[float]) -> Spread:
        """Take the quartiles of slice-by-slice ratios."""
        return cls.of([a / b for a, b in zip(ours, theirs, strict=True)])


@dataclass(frozen=True, slots=True)
class Measure:
    """A row of the report.

    Attributes:
        measure: Stable name.
        value: The median.
        unit: Of the value, such as `x` for a ratio, `us`, `ms`, `MB`.
        goal: The bound, or None for a number that is only reported.
        better: Whether the value should be at least or at most the goal.
        peer: What it is compared with, in words.
        spread: Lower and upper quartile, where the value is a median of slices.
    """

    measure: str
    value: float
    unit: str
    goal: float | None
    better: Literal["higher", "lower"]
    peer: str
    spread: Spread | None = None

    @classmethod
    def ratio(
        cls,
        measure: str,
        spread: Spread,
        *,
        goal: float | None,
        better: Literal["higher", "lower"],
        peer: str,
    ) -> Measure:
        """Make the row of a ratio."""
        return cls(measure, spread.median, "x", goal, better, peer, spread)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        if self.goal is None:
            return None
        if self.better == "higher":
            return (self.spread.high if self.spread else self.value) >= self.goal
        return (self.spread.low if self.spread else self.value) <= self.goal

    def as_json(self) -> dict[str, object]:
        """The row of `build/bench.json`."""
        row: dict[str, object] = {
            "measure": self.measure,
            "value": round(self.value, 4),
            "unit": self.unit,
            "goal": self.goal,
            "better": self.better,
            "peer": self.peer,
            "met": self.met,
        }
        if self.spread is not None:
            row["iqr"] = [round(self.spread.low, 4), round(self.spread.high, 4)]
        return row
