# SPDX-License-Identifier: Apache-2.0
"""Decisions on requests in metrics, audit log and spans, where any of them is enabled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubetls_sdk import audit, metrics
from kubetls_sdk.authz import WEBSOCKET
from kubetls_sdk.server import tracing
from kubetls_sdk.server.end_user import USER_ASKED_KEY, user_names
from kubetls_sdk.server.forwarded import forwarded_identity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubetls_sdk.authz import Decision
    from kubetls_sdk.server.connection import PeerConnection

__all__ = ("counted", "is_recorded", "record_request", "tls_version", "write_request")

_VERSIONS = {0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}


def is_recorded() -> bool:
    """Whether decisions are counted or written anywhere."""
    # The globals themselves: asked at each request, a call costs as much as the answer.
    return (
        metrics._recorder is not None  # noqa: SLF001
        or audit._recorder is not None  # noqa: SLF001
        or tracing._current_span is not None  # noqa: SLF001
    )


def tls_version(scope: Any) -> str | None:
    """The version of TLS that a request came over, where its scope tells."""
    tls = scope["extensions"].get("tls")
    return None if tls is None else _VERSIONS.get(tls.get("tls_version"))


def record_request(connection: PeerConnection, decision: Decision, method: str, scope: Any) -> None:
    """Count and write a decision."""
    tracing.record_on_span(
        allowed=decision.allowed, identity=connection.identity, scope=scope, verdict=decision
    )
    for verdict, rule in counted(decision):
        metrics.count_request(verdict, rule)
    write_request(connection, decision, method, scope)


def counted(decision: Decision) -> Iterator[tuple[str, str]]:
    """The labels that a decision counts under."""
    yield "allowed" if decision.allowed else "denied", decision.rule or ""
    if decision.shadow is not None and not decision.shadow.allowed:
        yield "shadow-denied", decision.shadow.rule or ""


def write_request(connection: PeerConnection, decision: Decision, method: str, scope: Any) -> None:
    """Write a decision to the audit log."""
    audit.record_decision(
        "websocket" if method == WEBSOCKET else "request",
        decision,
        peer=connection.address,
        spiffe_id=connection.identity,
        method=method,
        path=scope["path"],
        generation=connection.generation,
        tls=tls_version(scope),
        user=user_names(scope),
        is_user_asked=USER_ASKED_KEY in scope,
        forwarded=forwarded_identity(scope),
    )
