# SPDX-License-Identifier: Apache-2.0
"""What Prometheus is told of the CA pools: by the leader alone, and unsaid when it leads no more.

Rules:
    1. The earliest end in each state is what an alert needs.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from webhook import metrics
from webhook.trust.pool_entry import State

if TYPE_CHECKING:
    from prometheus_client import Gauge

    from webhook.trust.ca_pool import CaPool

__all__ = ("forget_pool", "forget_pools", "tell_pool")


def tell_pool(zone: str, pool: CaPool) -> None:
    """Set the gauges of a zone."""
    for state in State:
        entries = pool.entries_in(state)
        metrics.CA_STATE.labels(zone=zone, state=state.value).set(len(entries))
        if entries:
            gauge = metrics.CA_NOT_AFTER.labels(zone=zone, state=state.value)
            metrics.set_time(gauge, min(entry.not_after for entry in entries))
        else:
            _remove(metrics.CA_NOT_AFTER, zone, state)


def forget_pool(zone: str) -> None:
    """Clear the gauges of a zone."""
    for state in State:
        _remove(metrics.CA_STATE, zone, state)
        _remove(metrics.CA_NOT_AFTER, zone, state)


def forget_pools() -> None:
    """Clear the gauges of all zones."""
    metrics.CA_STATE.clear()
    metrics.CA_NOT_AFTER.clear()


def _remove(gauge: Gauge, zone: str, state: State) -> None:
    with suppress(KeyError):
        gauge.remove(zone, state.value)
