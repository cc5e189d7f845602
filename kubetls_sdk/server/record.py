# SPDX-License-Identifier: Apache-2.0
"""Decisions on requests in the metrics and in the audit log, where either is enabled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubetls_sdk import audit, metrics
from kubetls_sdk.authz import WEBSOCKET

if TYPE_CHECKING:
    from kubetls_sdk.authz import Decision
    from kubetls_sdk.server.connection import PeerConnection

__all__ = ("is_recorded", "record_request")


def is_recorded() -> bool:
    """Whether decisions are counted or written anywhere."""
    # The two globals themselves: asked at each request, a call costs as much as the answer.
    return metrics._recorder is not None or audit._recorder is not None  # noqa: SLF001


def record_request(connection: PeerConnection, decision: Decision, method: str, path: str) -> None:
    """Count and write a decision."""
    verdict = "allowed" if decision.allowed else "denied"
    metrics.increment(metrics.REQUESTS, decision=verdict, rule=decision.rule or "")
    if decision.shadow is not None and not decision.shadow.allowed:
        shadow_rule = decision.shadow.rule or ""
        metrics.increment(metrics.REQUESTS, decision="shadow-denied", rule=shadow_rule)
    audit.record_decision(
        "websocket" if method == WEBSOCKET else "request",
        decision,
        peer=connection.address,
        spiffe_id=connection.spiffe_id,
        method=method,
        path=path,
        generation=connection.generation,
    )
