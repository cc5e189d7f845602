# SPDX-License-Identifier: Apache-2.0
"""The control plane's own metrics, for Prometheus; the SDK's are beside them.

    from webhook import metrics
    metrics.ISSUED.labels(zone="default", kind="pod").inc()

Rules:
    1. Names, types and labels are part of the public interface and only added to.
    2. Labels are bounded: zones, partners, kinds and reasons of our own; never a namespace, pod or
       requester.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from datetime import datetime

__all__ = (
    "CA_NOT_AFTER",
    "CA_STATE",
    "CONTENT_TYPE",
    "DENIED",
    "FAILED",
    "ISSUED",
    "ISSUE_SECONDS",
    "LEADER_FAILING",
    "PARTNER_AUTHORITIES",
    "PARTNER_FETCHED_AT",
    "PARTNER_FETCHES",
    "PARTNER_TOO_OLD",
    "PENDING",
    "QUEUE",
    "QUEUE_SECONDS",
    "REQUEST_SECONDS",
    "RETRIED",
    "SERVING_NOT_AFTER",
    "UNINJECTED",
    "exposition",
    "set_time",
)

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_DELAYS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0)
_WORK: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)

ISSUED: Final = Counter(
    "kubetls_signer_issued",
    "Certificates issued, by zone and kind of request: pod (PodCertificateRequest) or csr.",
    ("zone", "kind"),
)
DENIED: Final = Counter(
    "kubetls_signer_denied", "Requests refused for ever, by kind and reason.", ("kind", "reason")
)
FAILED: Final = Counter(
    "kubetls_signer_failed",
    "Requests that could not be answered for ever, by kind and reason.",
    ("kind", "reason"),
)
RETRIED: Final = Counter(
    "kubetls_signer_retried",
    "Tries that left a request pending, by kind and reason.",
    ("kind", "reason"),
)
PENDING: Final = Gauge(
    "kubetls_signer_pending",
    "Requests of this replica that wait for an answer, by kind.",
    ("kind",),
)
REQUEST_SECONDS: Final = Histogram(
    "kubetls_signer_request_seconds",
    "From a request's creation to its answer, by kind.",
    ("kind",),
    buckets=_DELAYS,
)
ISSUE_SECONDS: Final = Histogram(
    "kubetls_signer_issue_seconds", "Deciding and signing, without the API.", buckets=_WORK
)
QUEUE: Final = Gauge("kubetls_queue_length", "Keys that wait for a worker, by queue.", ("queue",))
QUEUE_SECONDS: Final = Histogram(
    "kubetls_queue_seconds", "How long keys waited, by queue.", ("queue",), buckets=_DELAYS
)
CA_NOT_AFTER: Final = Gauge(
    "kubetls_ca_not_after_timestamp_seconds",
    "When an authority of the pool ends, by zone and state: next, active or retired.",
    ("zone", "state"),
)
CA_STATE: Final = Gauge(
    "kubetls_ca_authorities", "Authorities in the pool, by zone and state.", ("zone", "state")
)
LEADER_FAILING: Final = Gauge(
    "kubetls_leader_failing_tasks",
    "Tasks of the leader (zones, partners, serving certificate) that failed at their last try.",
)
PARTNER_FETCHES: Final = Counter(
    "kubetls_partner_fetches",
    "Fetches of partners' bundles from their endpoints, by partner and result: ok or failed.",
    ("partner", "result"),
)
PARTNER_AUTHORITIES: Final = Gauge(
    "kubetls_partner_authorities",
    "Authorities of a partner that are in force, of those that are fetched; 0 trusts nobody.",
    ("partner",),
)
PARTNER_FETCHED_AT: Final = Gauge(
    "kubetls_partner_fetched_timestamp_seconds",
    "When a partner's bundle was last confirmed by its endpoint.",
    ("partner",),
)
PARTNER_TOO_OLD: Final = Gauge(
    "kubetls_partner_too_old",
    "1 while a partner's bundle is withdrawn, since it was not confirmed within its maximum age.",
    ("partner",),
)
SERVING_NOT_AFTER: Final = Gauge(
    "kubetls_serving_not_after_timestamp_seconds",
    "When the webhook's own serving certificate ends.",
)
UNINJECTED: Final = Counter(
    "kubetls_pods_without_source",
    "Pods that were admitted without their source of credentials (old kubelet, gate off).",
)


def set_time(gauge: Gauge, at: datetime) -> None:
    """Set a gauge to an aware time, in seconds since the epoch."""
    gauge.set(at.timestamp())


def exposition() -> bytes:
    """All metrics of the process in Prometheus' text format, of `CONTENT_TYPE`."""
    return generate_latest(REGISTRY)
