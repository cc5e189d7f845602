# SPDX-License-Identifier: Apache-2.0
"""The trust stores of an image or virtual environment: where, how many roots, and for whom.

Rules:
    1. The image is an attacker's: every link is resolved inside it, and everything is bounded.
    2. What cannot be read, counted, or looked at within the bounds is never reported as clean.
    3. Nothing of the image is run or imported.
"""

from __future__ import annotations

from .store import Store
from .survey import MAX_ENTRIES, Survey, survey

__all__ = ("MAX_ENTRIES", "Store", "Survey", "survey")
