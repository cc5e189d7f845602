# SPDX-License-Identifier: Apache-2.0
"""What is written about gRPC calls: log, audit log, metrics, spans.

Rules:
    1. No token and no metadata is in any of it.
    2. What a refused peer only claims is written as a claim.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from kubetls_sdk import audit, metrics
from kubetls_sdk.authz import GRPC
from kubetls_sdk.checks import Check
from kubetls_sdk.server import tracing
from kubetls_sdk.server._grpc_details import address_of
from kubetls_sdk.server.end_user import USER_KEY, user_names
from kubetls_sdk.server.ending import ENDED
from kubetls_sdk.server.refusal_log import log_refusal

if TYPE_CHECKING:
    from kubetls_sdk.authz import Decision
    from kubetls_sdk.checks import Checks
    from kubetls_sdk.server._grpc_details import GrpcDetails
    from kubetls_sdk.server._grpc_entry import Entry
    from kubetls_sdk.server._grpc_peer import PeerVerdict
    from kubetls_sdk.users.user import User

__all__ = (
    "record_decision",
    "record_denial",
    "record_end",
    "record_lost_peer",
    "record_lost_user",
    "record_refusal",
)

_EXPIRED = "the user's token expired"


def record_refusal(
    context: Any,
    method: str,
    reason: str,
    checks: Checks,
    *,
    verdict: PeerVerdict | None = None,
    user: User | None = None,
) -> None:
    """Write about a call that the policy was not asked about, or that lacks a user."""
    _log(context, method, reason, verdict)
    is_verified = checks.service_authentication is Check.PASSED
    known = None if verdict is None else verdict.caller.spiffe_id
    names = {USER_KEY: user}
    identity = str(known) if is_verified else None
    tracing.record_on_span(allowed=False, identity=identity, scope=names)
    if not audit.is_enabled():
        return
    audit.record(
        "grpc",
        allowed=False,
        peer=address_of(context.peer()),
        spiffe_id=known if verdict is None else known or verdict.claimed,
        verified=is_verified,
        method=GRPC,
        path=method,
        reason=reason,
        generation=None if verdict is None else verdict.generation,
        tls=None if verdict is None else verdict.tls,
        user=user_names(names),
        checks=checks,
    )


def record_decision(context: Any, decision: Decision, entry: Entry, details: GrpcDetails) -> None:
    """Count and write a decision of the policy."""
    outcome = "allowed" if decision.allowed else "denied"
    caller, names = entry.verdict.caller.spiffe_id, {USER_KEY: entry.user}
    tracing.record_on_span(
        allowed=decision.allowed, identity=str(caller), scope=names, verdict=decision
    )
    metrics.count_request(outcome, decision.rule or "")
    if decision.shadow is not None and not decision.shadow.allowed:
        metrics.count_request("shadow-denied", decision.shadow.rule or "")
    if not audit.is_enabled():
        return
    audit.record_decision(
        "grpc",
        decision,
        peer=address_of(context.peer()),
        spiffe_id=caller,
        method=GRPC,
        path=entry.method,
        generation=entry.verdict.generation,
        tls=entry.verdict.tls,
        user=user_names(names),
        is_user_asked=details.is_user_asked,
    )


def record_denial(context: Any, decision: Decision, entry: Entry) -> None:
    """Log that the policy says no."""
    _log(context, entry.method, _words(decision, decision.reason), entry.verdict)


def record_end(context: Any, decision: Decision, entry: Entry, details: GrpcDetails) -> str:
    """Write that a decision ends a call under way; returns the reason."""
    why = decision.reason if not decision.allowed else "its rule wants a user, and it has none"
    denied = dataclasses.replace(decision, allowed=False, reason=f"{ENDED}: {why}")
    record_decision(context, denied, entry, details)
    reason = f"{ENDED}: {_words(decision, why)}"
    _log(context, entry.method, reason, entry.verdict)
    metrics.increment(metrics.CONNECTIONS_ENDED, side="server", reason="denied")
    return reason


def record_lost_peer(verdict: PeerVerdict, reason: str, context: Any) -> None:
    """Log and count a call that ends because its peer is not trusted any more."""
    caller, address = verdict.caller.spiffe_id, address_of(context.peer())
    log_refusal("connection", reason, address=address, spiffe_id=caller)
    metrics.increment(metrics.CONNECTIONS_ENDED, side="server", reason="refused")


def record_lost_user(context: Any, entry: Entry) -> str:
    """Log a call that ends with the token of its user; returns the reason."""
    _log(context, entry.method, _EXPIRED, entry.verdict)
    return _EXPIRED


def _words(decision: Decision, reason: str) -> str:
    rule = f" by rule {decision.rule!r}" if decision.rule else ""
    return f"policy {decision.kind}{rule}: {reason}"


def _log(context: Any, method: str, reason: str, verdict: PeerVerdict | None) -> None:
    known = None if verdict is None else verdict.caller.spiffe_id
    claim = (
        "" if verdict is None or verdict.claimed is None else f" claims {str(verdict.claimed)!r}"
    )
    log_refusal(
        "request",
        reason,
        address=address_of(context.peer()),
        spiffe_id=known,
        detail=f"{GRPC!r} {method!r}{claim}",
    )
