# SPDX-License-Identifier: Apache-2.0
"""The injector's metrics, in prometheus_client's default registry.

Names and labels are part of the public interface; no label comes from a request.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

__all__ = ("CERTIFICATE_NOT_AFTER", "CONFIGURATION_FAULTY", "REVIEWS", "REVIEW_SECONDS")

REVIEWS: Final = Counter(
    "kubetls_admission_reviews_total",
    "Admission reviews by outcome: injected, complete (nothing lacked), skipped, denied,"
    " invalid (no admission review) or failed.",
    ["outcome"],
)
REVIEW_SECONDS: Final = Histogram(
    "kubetls_admission_review_seconds",
    "Time from the complete request to its answer.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0),
)
CERTIFICATE_NOT_AFTER: Final = Gauge(
    "kubetls_admission_certificate_not_after_timestamp_seconds",
    "When the injector's own serving certificate expires.",
)
CONFIGURATION_FAULTY: Final = Gauge(
    "kubetls_admission_configuration_faulty",
    "1 while a file cannot be used and its last good content is in force, by file:"
    " platform, capabilities or certificate.",
    ["file"],
)
