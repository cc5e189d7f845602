# SPDX-License-Identifier: Apache-2.0
"""A pod's token, held in memory until it ends.

Rules:
    1. It is never shown, and never written.
    2. When it ends is read from the token itself, unverified: that only saves a vain request. What
       it is worth is for the API server to say, by its clock: what the kubelet has just brought is
       tried, whatever ours says.

Spec: RFC 7519 §4.1.4; Kubernetes bound service account tokens.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import dataclass, field
from typing import Final

__all__ = ("PodToken",)

_MARGIN_SECONDS: Final = 5.0
_UNKNOWN_SECONDS: Final = 600.0
_FRESH_SECONDS: Final = 60.0
_PARTS: Final = 3


@dataclass(frozen=True, slots=True)
class PodToken:
    """A token.

    Attributes:
        text: The token.
        ends_at: Unix time.
    """

    text: str = field(repr=False)
    ends_at: float

    @classmethod
    def received(cls, text: str, now: float) -> PodToken:
        """Take a token that the kubelet brought."""
        ends_at = _expiry(text)
        if ends_at is None:
            return cls(text, now + _UNKNOWN_SECONDS)
        return cls(text, max(ends_at, now + _FRESH_SECONDS))

    def is_good_at(self, now: float) -> bool:
        """Whether it is worth a request."""
        return now < self.ends_at - _MARGIN_SECONDS


def _expiry(text: str) -> float | None:
    """The claim `exp`; None for what is no JWT."""
    parts = text.split(".")
    if len(parts) != _PARTS:
        return None
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        ends_at = json.loads(base64.urlsafe_b64decode(padded))["exp"]
        is_number = isinstance(ends_at, int | float) and not isinstance(ends_at, bool)
        return float(ends_at) if is_number and math.isfinite(ends_at) else None
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, binascii.Error):
        return None
