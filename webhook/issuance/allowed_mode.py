# SPDX-License-Identifier: Apache-2.0
"""Whether pods of a namespace may have a delivery mode in which certificates are asked for by CSR.

Rules:
    1. The rule of the namespace decides, as it is now: what was admitted under an earlier one is
       decided again at each renewal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from webhook.exceptions import IssuanceError

if TYPE_CHECKING:
    from webhook.config import Mode, PlatformConfig

__all__ = ("MODE_NOT_ALLOWED", "check_mode")

MODE_NOT_ALLOWED: Final = "ModeNotAllowed"


def check_mode(namespace: str, mode: Mode, config: PlatformConfig) -> None:
    """Let a mode pass that a namespace may have.

    Raises:
        IssuanceError: It may not; final.
    """
    rule = config.rule_for(namespace)
    if rule is None or mode not in rule.modes:
        raise IssuanceError(
            f"namespace {namespace!r} may not have mode '{mode}'", reason=MODE_NOT_ALLOWED
        )
