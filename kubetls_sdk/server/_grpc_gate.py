# SPDX-License-Identifier: Apache-2.0
"""Authentication and authorization of gRPC calls, without the ways that calls are served.

Rules:
    1. Fail closed, in this order: the peer is verified, the path is canonical, the policy allows.
    2. The caller is told a status and nothing more; log and audit record say who, what and why.
    3. A method that does not exist is refused like one that does.
    4. Methods are opened to every verified workload by exact name only.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any, Final

import grpc

from kubetls_sdk import audit, metrics
from kubetls_sdk.authz import GRPC
from kubetls_sdk.exceptions import ConfigurationError, CredentialError
from kubetls_sdk.server._grpc_details import GrpcDetails, address_of
from kubetls_sdk.server._grpc_peer import PeerVerdicts, presented_by
from kubetls_sdk.server.ending import ENDED
from kubetls_sdk.server.record import is_recorded
from kubetls_sdk.server.refusal_log import log_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cryptography.x509 import Certificate

    from kubetls_sdk.authz import Decision
    from kubetls_sdk.server._grpc_peer import PeerVerdict
    from kubetls_sdk.source import Source

__all__ = ("Admission", "Gate", "RefusedCallError", "is_canonical")

is_canonical: Final = re.compile(
    r"/[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII
).fullmatch

_SAYS = {
    grpc.StatusCode.UNAUTHENTICATED: "unauthenticated",
    grpc.StatusCode.PERMISSION_DENIED: "permission denied",
}


class RefusedCallError(Exception):
    """A call that is answered without the application.

    Attributes:
        code: The status.
        details: What the caller may know.
    """

    def __init__(self, code: grpc.StatusCode, details: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.details = _SAYS[code] if details is None else details


class Admission:
    """A stream that was let through.

    Args:
        gate: Let it through.
        verdict: Who calls.
        method: The path as it was sent.
        context: gRPC's, of the call.

    Attributes:
        ended: Why the call may not go on, set when that is found out.
    """

    __slots__ = ("_code", "_context", "_gate", "_method", "_policy", "_verdict", "ended")

    def __init__(self, gate: Gate, verdict: PeerVerdict, method: str, context: Any) -> None:
        self._gate = gate
        self._verdict = verdict
        self._method = method
        self._context = context
        self._policy: Any = None  # that allowed it last; asked again, lest it changed meanwhile
        self._code = grpc.StatusCode.UNAUTHENTICATED
        self.ended: str | None = None

    def check(self) -> None:
        """Check again, between messages and before an answer, that the call may still go on.

        Raises:
            RefusedCallError: Its peer is not trusted, or the policy does not allow it any more.
        """
        if self.refusal() is not None:
            raise RefusedCallError(self._code)

    def refusal(self) -> str | None:
        """Say why the call may not go on, or None; logged and counted once."""
        if self.ended is None:
            reason = self._gate.reason_against(self._verdict)
            if reason is not None:
                self.ended = reason
                log_ended(self._verdict, reason, self._context.peer())
            elif self._gate.current_policy is not self._policy:
                self._decide_again()
        return self.ended

    def _decide_again(self) -> None:
        policy = self._gate.current_policy
        self.ended = self._gate.denial(policy, self._context, self._method, self._verdict)
        if self.ended is None:
            self._policy = policy
        else:
            self._code = grpc.StatusCode.PERMISSION_DENIED


def log_ended(verdict: PeerVerdict, reason: str, address: str) -> None:
    """Log and count a call that ends because its peer is not trusted any more."""
    caller = verdict.caller.spiffe_id
    log_refusal("connection", reason, address=address_of(address), spiffe_id=caller)
    metrics.increment(metrics.CONNECTIONS_ENDED, side="server", reason="refused")


class Gate:
    """Decides about each call of one server.

    Args:
        source: Whom we trust.
        policy: A holder of an authorizer as `.current`, or an authorizer.
        open_methods: Exact paths that every verified workload may call without asking the policy.
        intermediates: See `PeerVerdicts`.

    Raises:
        ConfigurationError: An open method is not a path of the form `/package.Service/Method`.
    """

    def __init__(
        self,
        source: Source,
        policy: Any,
        *,
        open_methods: Iterable[str] = (),
        intermediates: Sequence[Certificate] = (),
    ) -> None:
        self._verdicts = PeerVerdicts(source, intermediates)
        self.reason_against = self._verdicts.reason_against
        self._policy = policy
        self._is_holder = hasattr(policy, "current")
        self._open = frozenset(open_methods)
        for method in self._open:
            if is_canonical(method) is None:
                raise ConfigurationError(f"expected '/package.Service/Method', got {method!r}")

    def door(self, method: str) -> Callable[[Any], PeerVerdict]:
        """Make the function that admits calls of one method, given their servicer contexts.

        It raises `RefusedCallError` for who may not call; that is logged already.

        Args:
            method: The path as it was sent.
        """
        about = self._verdicts.about
        is_fit, is_open = is_canonical(method) is not None, method in self._open

        def admit(context: Any) -> PeerVerdict:
            presented = presented_by(context.auth_context())
            try:
                verdict = about(presented)
            except CredentialError as err:
                reason = f"our own credentials are not available: {err}"
                raise _refused(context, method, reason, grpc.StatusCode.UNAUTHENTICATED) from err
            if verdict.reason is not None:
                code = grpc.StatusCode.UNAUTHENTICATED
                raise _refused(context, method, verdict.reason, code, verdict)
            if not is_fit:
                code = grpc.StatusCode.PERMISSION_DENIED
                raise _refused(context, method, "the path is not canonical", code, verdict)
            if not is_open:
                self._authorize(context, method, verdict)
            return verdict

        return admit

    def check(self, verdict: PeerVerdict, context: Any) -> None:
        """Check before a single answer that the peer is still trusted.

        Raises:
            RefusedCallError: It is not.
        """
        reason = self.reason_against(verdict)
        if reason is not None:
            log_ended(verdict, reason, context.peer())
            raise RefusedCallError(grpc.StatusCode.UNAUTHENTICATED)

    @property
    def current_policy(self) -> Any:
        """The policy in force."""
        return self._policy.current if self._is_holder else self._policy

    def denial(self, policy: Any, context: Any, method: str, verdict: PeerVerdict) -> str | None:
        """Decide again about a call under way; says why it has to end, or None."""
        if method in self._open:
            return None
        details = GrpcDetails(context)
        decision: Decision = policy.decide(verdict.caller.spiffe_id, GRPC, method, details)
        if decision.allowed:
            return None
        ended = dataclasses.replace(decision, reason=f"{ENDED}: {decision.reason}")
        _record(context, ended, method, verdict)
        rule = f" by rule {decision.rule!r}" if decision.rule else ""
        reason = f"{ENDED}: policy {decision.kind}{rule}: {decision.reason}"
        _log(context, method, reason, verdict)
        metrics.increment(metrics.CONNECTIONS_ENDED, side="server", reason="denied")
        return reason

    def _authorize(self, context: Any, method: str, verdict: PeerVerdict) -> None:
        policy = self.current_policy
        caller = verdict.caller.spiffe_id
        decision: Decision = policy.decide(caller, GRPC, method, GrpcDetails(context))
        if is_recorded():
            _record(context, decision, method, verdict)
        if not decision.allowed:
            rule = f" by rule {decision.rule!r}" if decision.rule else ""
            _log(context, method, f"policy {decision.kind}{rule}: {decision.reason}", verdict)
            raise RefusedCallError(grpc.StatusCode.PERMISSION_DENIED)


def _refused(
    context: Any,
    method: str,
    reason: str,
    code: grpc.StatusCode,
    verdict: PeerVerdict | None = None,
) -> RefusedCallError:
    """Log and record what the policy was not even asked about."""
    _log(context, method, reason, verdict)
    caller = None if verdict is None else verdict.caller.spiffe_id or verdict.claimed
    audit.record(
        "grpc",
        allowed=False,
        peer=address_of(context.peer()),
        spiffe_id=caller,
        verified=verdict is not None and verdict.reason is None,
        method=GRPC,
        path=method,
        reason=reason,
        generation=None if verdict is None else verdict.generation,
    )
    return RefusedCallError(code)


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


def _record(context: Any, decision: Decision, method: str, verdict: PeerVerdict) -> None:
    outcome = "allowed" if decision.allowed else "denied"
    metrics.increment(metrics.REQUESTS, decision=outcome, rule=decision.rule or "")
    if decision.shadow is not None and not decision.shadow.allowed:
        shadow_rule = decision.shadow.rule or ""
        metrics.increment(metrics.REQUESTS, decision="shadow-denied", rule=shadow_rule)
    audit.record_decision(
        "grpc",
        decision,
        peer=address_of(context.peer()),
        spiffe_id=verdict.caller.spiffe_id,
        method=GRPC,
        path=method,
        generation=verdict.generation,
    )
