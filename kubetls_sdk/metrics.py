# SPDX-License-Identifier: Apache-2.0
"""Metrics with stable names, for Prometheus; nothing is recorded until `enable` is called.

The names, types and labels in `METRICS` are part of the public interface. prometheus_client is
needed only by `enable` (`pip install kubetls-sdk[metrics]`).

Rules:
    1. Disabled, a call costs one check of a module global.
    2. Labels are bounded: values come from our own code and configuration, never from an
       unverified peer; past `MAX_LABEL_SETS` further ones of a metric count as `other`.
    3. Recording never raises into the caller's request or handshake.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = (
    "BUNDLE_AUTHORITIES",
    "BUNDLE_FETCHES",
    "BUNDLE_STALE_SECONDS",
    "CONNECTIONS_ENDED",
    "DECISION_SECONDS",
    "GENERATION",
    "HANDSHAKES",
    "HANDSHAKE_SECONDS",
    "IDENTITY_HEADERS",
    "MAX_LABEL_SETS",
    "METRICS",
    "POLICY_LOADED",
    "POLICY_RELOADS",
    "REQUESTS",
    "SVID_NOT_AFTER",
    "USER_KEY_FETCHES",
    "USER_TOKENS",
    "VOLUME_PROBLEMS",
    "VOLUME_RELOADS",
    "Metric",
    "count_request",
    "disable",
    "enable",
    "increment",
    "is_enabled",
    "observe",
    "set_gauge",
)

_log = logging.getLogger(__name__)

VOLUME_RELOADS = "kubetls_volume_reloads_total"
VOLUME_PROBLEMS = "kubetls_volume_problems_total"
GENERATION = "kubetls_snapshot_generation"
SVID_NOT_AFTER = "kubetls_svid_not_after_timestamp_seconds"
BUNDLE_AUTHORITIES = "kubetls_bundle_authorities"
BUNDLE_STALE_SECONDS = "kubetls_bundle_stale_seconds"
BUNDLE_FETCHES = "kubetls_bundle_fetches_total"
HANDSHAKES = "kubetls_handshakes_total"
HANDSHAKE_SECONDS = "kubetls_handshake_seconds"
CONNECTIONS_ENDED = "kubetls_connections_ended_total"
REQUESTS = "kubetls_requests_total"
DECISION_SECONDS = "kubetls_decision_seconds"
POLICY_RELOADS = "kubetls_policy_reloads_total"
POLICY_LOADED = "kubetls_policy_loaded_timestamp_seconds"
IDENTITY_HEADERS = "kubetls_identity_headers_removed_total"
USER_TOKENS = "kubetls_user_tokens_total"
USER_KEY_FETCHES = "kubetls_user_key_fetches_total"

MAX_LABEL_SETS = 500
"""Different label values that one metric records; what comes later counts as `other`."""
_MAX_LABEL_CHARACTERS = 200
_SHORT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_TINY = (0.000001, 0.0000025, 0.000005, 0.00001, 0.000025, 0.00005, 0.0001, 0.001, 0.01)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table of metrics.

    Attributes:
        name: As Prometheus shows it.
        kind: `counter`, `gauge` or `histogram`.
        help: One sentence; the unit is in the name.
        labels: Names of the labels.
        merge: How a gauge of several worker processes is merged (prometheus_client's modes).
        buckets: Upper bounds of a histogram, in seconds.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    merge: Literal["livemin", "livemax"] = "livemin"
    buckets: tuple[float, ...] = ()


METRICS = (
    Metric(
        VOLUME_RELOADS,
        "counter",
        "Looks at the volume, by result: changed, unchanged or failed.",
        ("result",),
    ),
    Metric(
        VOLUME_PROBLEMS,
        "counter",
        "Distinct problems with the volume, by kind: volume, svid, bundle, bundle-dropped,"
        " not-refreshed or expired.",
        ("kind",),
    ),
    Metric(GENERATION, "gauge", "Generation of the snapshot in force."),
    Metric(SVID_NOT_AFTER, "gauge", "When our own SVID expires."),
    Metric(
        BUNDLE_AUTHORITIES,
        "gauge",
        "Authorities in the trust bundle in force; 0 trusts nobody.",
        ("trust_domain",),
    ),
    Metric(
        BUNDLE_STALE_SECONDS,
        "gauge",
        "Time since a trust bundle that cannot be read now was last read; 0 when it can.",
        ("trust_domain",),
        merge="livemax",
    ),
    Metric(
        BUNDLE_FETCHES,
        "counter",
        "Fetches of partners' trust bundles, by configured trust domain and result: ok or failed.",
        ("trust_domain", "result"),
    ),
    Metric(
        HANDSHAKES,
        "counter",
        "TLS handshakes, by side (server, client), result (ok, refused, failed) and reason code.",
        ("side", "result", "reason"),
    ),
    Metric(
        HANDSHAKE_SECONDS,
        "histogram",
        "Time from the first byte of a handshake to the verified peer.",
        ("side",),
        buckets=_SHORT,
    ),
    Metric(
        CONNECTIONS_ENDED,
        "counter",
        "Living connections that were ended by us, by side and reason code.",
        ("side", "reason"),
    ),
    Metric(
        REQUESTS,
        "counter",
        "Decisions, by result (allowed, denied, shadow-denied; action-allowed and action-denied for"
        " what single routes require) and name of the rule.",
        ("decision", "rule"),
    ),
    Metric(DECISION_SECONDS, "histogram", "Time of one policy decision.", buckets=_TINY),
    Metric(
        POLICY_RELOADS,
        "counter",
        "Looks at the policy files, by result: changed, unchanged or failed.",
        ("result",),
    ),
    Metric(POLICY_LOADED, "gauge", "When the policy in force was loaded."),
    Metric(
        IDENTITY_HEADERS,
        "counter",
        "Header fields of requests that claimed an identity, and were removed.",
    ),
    Metric(
        USER_TOKENS,
        "counter",
        "Requests where end users are authenticated, by result: accepted, refused or absent.",
        ("result",),
    ),
    Metric(
        USER_KEY_FETCHES,
        "counter",
        "Fetches of an issuer's keys, by configured URL and result: ok or failed.",
        ("url", "result"),
    ),
)
"""Every metric of this package."""


class Recorder:
    """The prometheus_client objects of one registry, with a cache of their labelled children."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._metrics = {metric.name: _create(metric, registry) for metric in METRICS}
        self._labels = {metric.name: metric.labels for metric in METRICS}
        self._requests: dict[tuple[str, str], Any] = {}
        self._children: dict[tuple[Any, ...], Any] = {}
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def child(self, name: str, labels: dict[str, str]) -> Any:
        """The object to record on, cached by name and label values."""
        key = (name, *labels.items())
        found = self._children.get(key)
        return found if found is not None else self._new_child(key, name, labels)

    def _new_child(self, key: tuple[Any, ...], name: str, labels: dict[str, str]) -> Any:
        metric = self._metrics[name]
        if not self._labels[name]:
            self._children[key] = metric
            return metric
        with self._lock:
            if key in self._children:
                return self._children[key]
            if self._counts.get(name, 0) >= MAX_LABEL_SETS:
                return metric.labels(**dict.fromkeys(labels, "other"))
            self._counts[name] = self._counts.get(name, 0) + 1
            values = {key: str(value)[:_MAX_LABEL_CHARACTERS] for key, value in labels.items()}
            found = self._children[key] = metric.labels(**values)
        return found

    def request(self, decision: str, rule: str) -> Any:
        """The child of `REQUESTS`."""
        found = self._requests.get((decision, rule))
        if found is None:
            found = self.child(REQUESTS, {"decision": decision, "rule": rule})
            if len(self._requests) < MAX_LABEL_SETS:
                self._requests[decision, rule] = found
        return found

    def close(self) -> None:
        """Take the metrics out of the registry."""
        for metric in self._metrics.values():
            self.registry.unregister(metric)


_recorder: Recorder | None = None
_enabling = threading.Lock()


def enable(registry: CollectorRegistry | None = None) -> None:
    """Start recording; once is enough for the process, and again with the same registry is fine.

    Args:
        registry: Where the metrics are registered; None for prometheus_client's default one.

    Raises:
        ConfigurationError: prometheus_client is not installed, or another registry is in use.
    """
    global _recorder  # noqa: PLW0603 - the one check that a disabled metric costs
    try:
        import prometheus_client
    except ImportError as err:
        raise ConfigurationError(
            "expected prometheus_client for metrics: pip install 'kubetls-sdk[metrics]'"
        ) from err
    wanted = prometheus_client.REGISTRY if registry is None else registry
    with _enabling:
        if _recorder is None:
            _recorder = Recorder(wanted)
        elif _recorder.registry is not wanted:
            raise ConfigurationError("expected one registry for metrics, got a second one")


def disable() -> None:
    """Stop recording and unregister the metrics."""
    global _recorder  # noqa: PLW0603 - see `enable`
    with _enabling:
        if _recorder is not None:
            _recorder.close()
        _recorder = None


def is_enabled() -> bool:
    """Tell whether anything is recorded, for callers whose labels cost something to compute."""
    return _recorder is not None


def increment(name: str, amount: float = 1, **labels: str) -> None:
    """Add to a counter."""
    if _recorder is not None:
        _record(_recorder, name, "inc", amount, labels)


def count_request(decision: str, rule: str) -> None:
    """Add one to `REQUESTS`: `increment` without its keyword arguments, for each request."""
    recorder = _recorder
    if recorder is not None:
        recorder.request(decision, rule).inc()


def set_gauge(name: str, value: float, **labels: str) -> None:
    """Set a gauge."""
    if _recorder is not None:
        _record(_recorder, name, "set", value, labels)


def observe(name: str, value: float, **labels: str) -> None:
    """Add an observation to a histogram."""
    if _recorder is not None:
        _record(_recorder, name, "observe", value, labels)


def _record(recorder: Recorder, name: str, verb: str, value: float, labels: dict[str, str]) -> None:
    try:
        getattr(recorder.child(name, labels), verb)(value)
    except (KeyError, ValueError, AttributeError, OSError):
        # A wrong name or label is our bug, and a full disk of the multi-process mode not the
        # request's: neither may fail what is being measured.
        _log.exception("metric %r with labels %s was not recorded", name, sorted(labels))


def _create(metric: Metric, registry: CollectorRegistry) -> Any:
    from prometheus_client import Counter, Gauge, Histogram

    if metric.kind == "counter":
        return Counter(metric.name, metric.help, metric.labels, registry=registry)
    if metric.kind == "gauge":
        return Gauge(
            metric.name,
            metric.help,
            metric.labels,
            registry=registry,
            multiprocess_mode=metric.merge,
        )
    return Histogram(
        metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets
    )
