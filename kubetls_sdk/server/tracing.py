# SPDX-License-Identifier: Apache-2.0
"""Who asked and what was decided, as attributes of OpenTelemetry spans.

    from kubetls_sdk.server import tracing

    tracing.enable()  # instrumentation around KubeTLSMiddleware: the span of the request is current
    FastAPIInstrumentor.instrument_app(app, server_request_hook=tracing.request_hook)  # inside it

Rules:
    1. Off until `enable` is called, which alone imports opentelemetry. Spans are other people's:
       none is started here.
    2. Names are part of the public interface and only added to.
    3. No header, path, query string or token is in an attribute, and no claim but issuer and
       subject.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.authorize import POLICY_KEY
from kubetls_sdk.server.caller import SCOPE_KEY
from kubetls_sdk.server.end_user import user_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubetls_sdk.audit import Verdict

__all__ = ("ATTRIBUTES", "disable", "enable", "is_enabled", "record_on_span", "request_hook")

PEER_ID: Final = "kubetls.peer.id"
USER_ID: Final = "enduser.id"
USER_ISSUER: Final = "kubetls.enduser.issuer"
DECISION: Final = "kubetls.decision"
POLICY: Final = "kubetls.policy"
RULE: Final = "kubetls.rule"

ATTRIBUTES: Final = {
    PEER_ID: "The SPIFFE ID that the peer proved; absent for an anonymous one.",
    USER_ID: "Subject of the end user whose token was verified.",
    USER_ISSUER: "Issuer of that token: a user is the pair of both.",
    DECISION: "`allow` or `deny`.",
    POLICY: "The policy whose rule decided.",
    RULE: "The rule that decided.",
}
"""Every attribute, with its meaning. One without a value is not set."""

_current_span: Callable[[], Any] | None = None


def enable() -> None:
    """Set the attributes on the span that is current when a request is decided.

    Call it when the application starts: connections that exist already may go on without.

    Raises:
        ConfigurationError: opentelemetry is not installed.
    """
    global _current_span  # noqa: PLW0603 - the one check that disabled tracing costs
    try:
        from opentelemetry.trace import get_current_span
    except ImportError as err:
        raise ConfigurationError(
            "expected opentelemetry for spans: pip install opentelemetry-api"
        ) from err
    _current_span = get_current_span


def disable() -> None:
    """Set no more attributes."""
    global _current_span  # noqa: PLW0603 - see `enable`
    _current_span = None


def is_enabled() -> bool:
    """Whether attributes are set on current spans."""
    return _current_span is not None


def record_on_span(
    *, allowed: bool, identity: str | None, scope: Any, verdict: Verdict | None = None
) -> None:
    """Set the attributes of a decision on the current span, where that is enabled.

    Args:
        allowed: The whole answer.
        identity: The SPIFFE ID that the peer proved.
        scope: Of the request.
        verdict: What the policy said; None when it was not asked.
    """
    if _current_span is not None:
        _set(_current_span(), _values(allowed, identity, scope, verdict))


def request_hook(span: Any, scope: Any) -> None:
    """Set the attributes on a span that was started for a request that was let in.

    It is a `server_request_hook` of the instrumentations for ASGI, Starlette and FastAPI, which
    run inside the middleware. It needs no `enable`.

    Args:
        span: A span of opentelemetry.
        scope: Of the request; one that no `KubeTLSMiddleware` has seen changes nothing.
    """
    admission, caller = scope.get(POLICY_KEY), scope.get(SCOPE_KEY)
    if admission is not None and caller is not None:
        identity = None if caller.is_anonymous else str(caller)
        _set(span, _values(True, identity, scope, admission.decision))


def _values(
    allowed: bool, identity: str | None, scope: Any, verdict: Verdict | None
) -> dict[str, str]:
    issuer, subject = user_names(scope) or (None, None)
    values = {
        PEER_ID: identity,
        USER_ID: subject,
        USER_ISSUER: issuer,
        DECISION: "allow" if allowed else "deny",
        POLICY: None if verdict is None else verdict.policy,
        RULE: None if verdict is None else verdict.rule,
    }
    return {name: value for name, value in values.items() if value is not None}


def _set(span: Any, values: dict[str, str]) -> None:
    if span.is_recording():
        span.set_attributes(values)
