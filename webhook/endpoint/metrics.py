# SPDX-License-Identifier: Apache-2.0
"""The bundle endpoint's metrics, beside `webhook.metrics`; names and labels are only added to."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

__all__ = ("ANSWERS", "AUTHORITIES", "SEQUENCE")

ANSWERS: Final = Counter(
    "kubetls_bundle_endpoint_answers",
    "Answers by zone and HTTP status; the zone is empty for paths where nothing is published.",
    ("zone", "status"),
)
AUTHORITIES: Final = Gauge(
    "kubetls_bundle_endpoint_authorities",
    "Authorities that are published now, by zone; 0: partners are told to come back later.",
    ("zone",),
)
SEQUENCE: Final = Gauge(
    "kubetls_bundle_endpoint_sequence",
    "Sequence number of the document that is published, by zone.",
    ("zone",),
)
