# SPDX-License-Identifier: Apache-2.0
"""Everything that the demo reports."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from examples.demonstration.case import Case

__all__ = ("Endurance", "Result")


@dataclass(frozen=True, slots=True)
class Endurance:
    """What came of the load.

    Attributes:
        cases: What happened to somebody meanwhile.
        requests: How many were sent.
        failed: How many of them did not get their answer.
        svid: Seconds until each new SVID of orders or web was in effect on the wire.
        root_added: Seconds until a caller under the new root got in.
        root_removed: Seconds until a caller under the old root did not get in any more.
    """

    cases: tuple[Case, ...]
    requests: int
    failed: int
    svid: tuple[float, ...]
    root_added: float
    root_removed: float


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that the demo reports.

    Attributes:
        admission: What happened to each caller, and which of the five checks failed.
        endurance: What came of the load.
    """

    admission: tuple[Case, ...]
    endurance: Endurance

    @property
    def cases(self) -> tuple[Case, ...]:
        """Both tables together."""
        return (*self.admission, *self.endurance.cases)

    @property
    def is_ok(self) -> bool:
        """Whether everything is as it ought to be."""
        return self.endurance.failed == 0 and all(case.is_ok for case in self.cases)

    def document(self) -> dict[str, object]:
        """The content of `build/demo.json`."""
        lasting = self.endurance
        seconds = {
            "svid": _rounded(max(lasting.svid)),
            "root_added": _rounded(lasting.root_added),
            "root_removed": _rounded(lasting.root_removed),
        }
        return {
            "cases": [asdict(case) for case in self.cases],
            "requests": self.endurance.requests,
            "failed": self.endurance.failed,
            "seconds_to_effect": seconds,
            "ok": self.is_ok,
        }


def _rounded(seconds: float) -> float | None:
    """For JSON, which knows no infinity: a change that never took effect has no time."""
    return round(seconds, 4) if math.isfinite(seconds) else None
