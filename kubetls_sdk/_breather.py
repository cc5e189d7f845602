# SPDX-License-Identifier: Apache-2.0
"""Lets a long computation in a thread leave the process responsive.

Rules:
    1. The event loop's thread gets the interpreter every few steps; it would wait for the switch
       interval (5 ms) otherwise, each time that it has something to do.
    2. What is made on the way goes to the oldest generation of the garbage collector at once, since
       it lives long: else the collector walks all objects of the process again and again.
    3. The collector stays enabled, and what the application has frozen stays frozen.

Spec: Python's `gc.freeze` and `gc.unfreeze`.
"""

from __future__ import annotations

import gc
import sys
import time

__all__ = ("Breather",)

_STEPS_PER_BREATH = 16
_BREATH_SECONDS = 0.0001
_FEW_FROZEN = 1000  # Python 3.12 freezes some hundred of its own at its start.


class Breather:
    """Called after each step of the computation."""

    __slots__ = ("_ages", "_count")

    def __init__(self) -> None:
        self._count = 0
        self._ages = _can_age()

    def __call__(self) -> None:
        self._count += 1
        if self._count % _STEPS_PER_BREATH == 0:
            self._age()
            time.sleep(_BREATH_SECONDS)

    def _age(self) -> None:
        # Counting is free while nothing is frozen; what an application froze is not ours to thaw.
        if self._ages and gc.get_freeze_count() < _FEW_FROZEN:
            gc.freeze()
            gc.unfreeze()
        else:
            self._ages = False


def _can_age() -> bool:
    """Whether freezing only moves lists, as in CPython with its global lock."""
    has_lock = getattr(sys, "_is_gil_enabled", lambda: True)()
    return bool(has_lock) and sys.implementation.name == "cpython"
