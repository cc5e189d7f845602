# SPDX-License-Identifier: Apache-2.0
"""What somebody who looks at a cluster finds, one thing a line."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ("Finding", "Verdict")


class Verdict(StrEnum):
    """What a finding means."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    verdict: Verdict
    subject: str
    message: str
