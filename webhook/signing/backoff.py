# SPDX-License-Identifier: Apache-2.0
"""How long to wait before the next attempt.

Spec: exponential back-off with full jitter, so that replicas and requests that failed together do
not come back together.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ("Backoff",)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with full jitter.

    Attributes:
        first_seconds: The most before the first retry; doubles with each further one.
        longest_seconds: The most before any retry.
    """

    first_seconds: float = 0.25
    longest_seconds: float = 30.0

    def delay(self, failures: int, *, at_least: float = 0.0) -> float:
        """Choose the seconds to wait after a number of failures in a row.

        Args:
            failures: 1 after the first.
            at_least: What the server asked for (Retry-After), honoured up to the longest delay.
        """
        ceiling = min(self.longest_seconds, self.first_seconds * 2 ** min(failures - 1, 20))
        floor = min(at_least, self.longest_seconds)
        return floor + random.uniform(0.0, ceiling)  # noqa: S311 - spreads load, guards nothing
