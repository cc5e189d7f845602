# SPDX-License-Identifier: Apache-2.0
"""The secret issuer's metrics, beside `webhook.metrics`; names and labels are only added to."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

__all__ = ("HELD", "POSTPONED", "WRITTEN")

HELD: Final = Gauge(
    "kubetls_secrets_held", "Pods whose Secret this replica wrote and keeps current."
)
WRITTEN: Final = Counter(
    "kubetls_secrets_written", "Secrets that were written, by zone.", ("zone",)
)
POSTPONED: Final = Counter(
    "kubetls_secrets_postponed", "Tries that wrote no Secret, by reason.", ("reason",)
)
