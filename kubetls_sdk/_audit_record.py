# SPDX-License-Identifier: Apache-2.0
"""What a line of the audit log says; public names of `kubetls_sdk.audit`.

Rules:
    1. Names of fields, events and decisions are part of the public interface and only added to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from kubetls_sdk._audit_line import around, line

if TYPE_CHECKING:
    from kubetls_sdk.checks import Checks

__all__ = ("AuditRecord", "Event", "Verdict")

Event = Literal["handshake", "connection", "request", "websocket", "grpc", "action"]
"""What was decided on: a TLS handshake, a living connection, one call of a protocol, or an action
of the application."""


class Verdict(Protocol):
    """What `record_decision` reads of a decision of `kubetls_sdk.authz`."""

    @property
    def allowed(self) -> bool:
        """The whole answer."""
        ...

    @property
    def policy(self) -> str | None:
        """The policy whose rule decided."""
        ...

    @property
    def rule(self) -> str | None:
        """The rule that decided."""
        ...

    @property
    def reason(self) -> str:
        """Why, in one clause."""
        ...

    @property
    def shadow(self) -> Verdict | None:
        """What the shadow policies would have said instead, when that differs."""
        ...


class AuditRecord(NamedTuple):
    """One line of the audit log; `str()` is its JSON.

    Attributes:
        time: Seconds since the epoch; in JSON, UTC in ISO 8601 with milliseconds.
        event: What was decided on, see `Event`.
        decision: `allow` or `deny`.
        peer: Address of the peer, as `host:port`.
        spiffe_id: The identity of the peer, or None for an anonymous one.
        verified: The peer's proof of `spiffe_id` holds; false when it only claims it, or when its
            certificate expired or its root was removed meanwhile.
        method: Of the request.
        path: Of the request, without its query string.
        policy: The policy whose rule decided.
        rule: The rule that decided.
        reason: Why, in one clause.
        shadow: `allow` or `deny`: what shadow policies would have said, when that differs.
        generation: The generation of the source that the peer was last verified under.
        sample: The share of such records that is written: 1 for every `deny`.
        tls: Version of TLS, where that is known.
        user: Issuer and subject of the end user, None without one.
        checks: The results of the five checks, None where nobody asked for anything yet.
        forwarded: The identity of the client that a believed proxy has forwarded the request of;
            `spiffe_id` then is the proxy.
    """

    time: float
    event: Event
    decision: str
    peer: str | None
    spiffe_id: str | None
    verified: bool
    method: str | None
    path: str | None
    policy: str | None
    rule: str | None
    reason: str | None
    shadow: str | None
    generation: int | None
    sample: float
    tls: str | None = None
    user: tuple[str, str] | None = None
    checks: Checks | None = None
    forwarded: str | None = None

    def __str__(self) -> str:
        return line(self, around(self))
