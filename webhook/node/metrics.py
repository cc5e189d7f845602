# SPDX-License-Identifier: Apache-2.0
"""The node driver's metrics, beside `webhook.metrics`; names and labels are only added to."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

__all__ = (
    "EXPIRED",
    "PUBLISHED",
    "PUBLISH_SECONDS",
    "REFUSED",
    "RENEWED",
    "RENEW_POSTPONED",
    "REPUBLISH_FAILED",
    "REWRITTEN",
    "VOLUMES",
    "WITHOUT_TOKEN",
)

_DELAYS: Final = (0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 120.0)

VOLUMES: Final = Gauge("kubetls_node_volumes", "Volumes of pods that are published on this node.")
PUBLISHED: Final = Counter(
    "kubetls_node_published", "Volumes that were published, by zone.", ("zone",)
)
PUBLISH_SECONDS: Final = Histogram(
    "kubetls_node_publish_seconds",
    "From a pod's first publication to the files at their place.",
    buckets=_DELAYS,
)
REFUSED: Final = Counter(
    "kubetls_node_publications_refused",
    "Publications that ended in an error, by reason; the kubelet comes again.",
    ("reason",),
)
RENEWED: Final = Counter(
    "kubetls_node_renewed", "Certificates that replaced an older one, by zone.", ("zone",)
)
REWRITTEN: Final = Counter(
    "kubetls_node_bundles_rewritten",
    "Volumes whose bundles were replaced while key and certificate stayed, by zone.",
    ("zone",),
)
RENEW_POSTPONED: Final = Counter(
    "kubetls_node_renewals_postponed",
    "Tries to bring a volume up to date that failed, by reason; what it holds stays.",
    ("reason",),
)
EXPIRED: Final = Gauge(
    "kubetls_node_expired", "Published volumes whose certificate has expired; should be 0."
)
WITHOUT_TOKEN: Final = Gauge(
    "kubetls_node_waiting_for_token",
    "Volumes that need a certificate and wait for the kubelet to bring the pod's next token.",
)
REPUBLISH_FAILED: Final = Counter(
    "kubetls_node_republish_failed",
    "Repeated publications of a volume that is not whole; the kubelet is not told.",
)
