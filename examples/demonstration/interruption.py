# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM: one interruption, never in the middle of starting a process.

Rules:
    1. The first signal interrupts; later ones do not interrupt the cleaning up.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Interruption", "interruption")


class Interruption:
    """Turns both signals into one `KeyboardInterrupt` of the main thread."""

    def __init__(self) -> None:
        self._is_held = False
        self._is_wanted = False
        self._is_raised = False

    def install(self) -> None:
        """Receive the signals from now on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put an interruption off until the end of the block."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        self._raise()

    def _receive(self, _number: int, _frame: object) -> None:
        self._is_wanted = True
        self._raise()

    def _raise(self) -> None:
        if self._is_wanted and not self._is_held and not self._is_raised:
            self._is_raised = True
            raise KeyboardInterrupt


interruption = Interruption()
