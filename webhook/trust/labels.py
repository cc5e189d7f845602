# SPDX-License-Identifier: Apache-2.0
"""Labels and annotations of what the trust publisher makes, by which it finds it again."""

from __future__ import annotations

from typing import Final

from webhook.names import annotation

__all__ = ("MANAGED", "MANAGED_SELECTOR", "WITHDRAWN")

MANAGED: Final = {annotation("managed-by"): "trust-publisher"}
MANAGED_SELECTOR: Final = ",".join(f"{key}={value}" for key, value in MANAGED.items())

WITHDRAWN: Final = annotation("withdrawn")
"""Annotation of a partner's bundle that is there to be remembered, and trusts nobody: why."""
