# SPDX-License-Identifier: Apache-2.0
"""How long to wait before trying again: exponential, with full jitter.

Full jitter (a uniform draw from zero to the ceiling) spreads clients that failed at one moment, as
at a restart of the API server, better than a fixed part with noise on it.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Backoff",)

_MAX_DOUBLINGS = 32


class Backoff:
    """Grows with each failure, starts anew at `reset`."""

    def __init__(
        self,
        *,
        initial: float = 0.2,
        maximum: float = 10.0,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._initial = initial
        self._maximum = maximum
        self._draw = draw
        self._failures = 0

    @property
    def failures(self) -> int:
        """How often `delay` was asked since the last success."""
        return self._failures

    def delay(self, *, at_least: float | None = None) -> float:
        """Count a failure and return the seconds to wait.

        Args:
            at_least: Seconds that the server asked for; the jitter comes on top of them.
        """
        ceiling = min(self._maximum, self._initial * 2.0 ** min(self._failures, _MAX_DOUBLINGS))
        self._failures += 1
        return (at_least or 0.0) + ceiling * self._draw()

    def reset(self) -> None:
        """Forget the failures."""
        self._failures = 0
