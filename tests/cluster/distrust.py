# SPDX-License-Identifier: Apache-2.0
"""The moment at which the SDK stops trusting somebody."""

from __future__ import annotations

import threading
import time

__all__ = ("Seconds",)


class Seconds:
    """When the SDK stopped trusting somebody, in monotonic seconds.

    Args:
        is_over: Tells from a snapshot that it did.

    Attributes:
        distrusted: When it did.
        is_over: Set then.
    """

    def __init__(self, is_over):
        self.distrusted = None
        self.is_over = threading.Event()
        self._test = is_over

    def take(self, snapshot):
        if self.distrusted is None and self._test(snapshot):
            self.distrusted = time.monotonic()
            self.is_over.set()
