# SPDX-License-Identifier: Apache-2.0
"""The answer to a request that is not served.

Rules:
    1. The caller learns a status, never a reason: that is in the log.
    2. A connection that is not trusted any more ends with its answer.

Spec: RFC 9110 §15.5; RFC 9457 (problem details); RFC 6455 §7.4.1.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubetls_sdk import audit
from kubetls_sdk.checks import Check, not_decided
from kubetls_sdk.server import tracing
from kubetls_sdk.server.end_user import user_names
from kubetls_sdk.server.forwarded import forwarded_identity
from kubetls_sdk.server.record import tls_version
from kubetls_sdk.server.refusal_log import log_refusal

if TYPE_CHECKING:
    from kubetls_sdk.authz.decision import Decision
    from kubetls_sdk.checks import Checks
    from kubetls_sdk.server.connection import PeerConnection

__all__ = ("POLICY_VIOLATION", "TITLES", "Refusal")

POLICY_VIOLATION = 1008
"""The WebSocket close code of every refusal, before and after the handshake."""

_MUTUAL_TLS = "MutualTLS"

TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    500: "Internal Server Error",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that is answered without the application.

    Attributes:
        status: HTTP status.
        ends: The connection whose life ends with the answer, and why.
        challenge: `WWW-Authenticate` of a 401 about the end user or a forwarded client; one about
            the peer ends the connection.
    """

    status: int
    ends: tuple[PeerConnection, str] | None = None
    challenge: str | None = None

    @classmethod
    def unauthenticated(
        cls, connection: PeerConnection, reason: str, scope: Any, *, ends: bool = False
    ) -> Refusal:
        """401: nobody is proven to be there, or not any more."""
        _log(connection, reason, scope)
        _audit(connection, reason, scope, not_decided(is_known=None))
        return cls(401, (connection, reason) if ends else None)

    @classmethod
    def no_user(
        cls,
        connection: PeerConnection,
        reason: str,
        scope: Any,
        *,
        challenge: str,
        is_service_allowed: bool = False,
    ) -> Refusal:
        """401: the peer is who it is, but no end user is proven (RFC 6750 §3)."""
        checks = not_decided(
            is_known=connection.spiffe_id is not None,
            is_user_refused=True,
            is_service_allowed=is_service_allowed,
        )
        _log(connection, reason, scope)
        _audit(connection, reason, scope, checks)
        return cls(401, challenge=challenge)

    @classmethod
    def unproven_client(cls, connection: PeerConnection, reason: str, scope: Any) -> Refusal:
        """401: the peer is who it is, but not whom it has forwarded the request of."""
        _log(connection, reason, scope)
        _audit(connection, reason, scope, not_decided(is_known=connection.spiffe_id is not None))
        return cls(401, challenge=_MUTUAL_TLS)

    @classmethod
    def malformed(cls, connection: PeerConnection, reason: str, scope: Any) -> Refusal:
        """400: two parsers could understand the request differently."""
        _log(connection, reason, scope)
        _audit(connection, reason, scope, not_decided(is_known=connection.spiffe_id is not None))
        return cls(400)

    @classmethod
    def denied(cls, connection: PeerConnection, decision: Decision, scope: Any) -> Refusal:
        """403: the policy says no."""
        rule = f" by rule {decision.rule!r}" if decision.rule else ""
        _log(connection, f"policy {decision.kind}{rule}: {decision.reason}", scope)
        return cls(403)

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        """Send the answer, and end the connection where that is due."""
        if scope["type"] == "websocket":
            await self._reject(scope, receive, send)
        else:
            await self._send("http.response", send)
        if self.ends is not None:
            connection, reason = self.ends
            connection.terminate(reason)

    async def _reject(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()  # websocket.connect
        if "websocket.http.response" in (scope.get("extensions") or ()):
            await self._send("websocket.http.response", send)
        else:
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})

    def content(self) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """Body and headers of the answer: problem details that tell the status alone."""
        title = TITLES[self.status]
        body = json.dumps({"type": "about:blank", "title": title, "status": self.status}).encode()
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
        ]
        if self.challenge is not None:
            headers.append((b"www-authenticate", self.challenge.encode()))
        elif self.status == 401:  # RFC 9110 §11.6.1
            headers.append((b"www-authenticate", _MUTUAL_TLS.encode()))
            headers.append((b"connection", b"close"))
        return body, headers

    async def _send(self, kind: str, send: Any) -> None:
        body, headers = self.content()
        await send({"type": f"{kind}.start", "status": self.status, "headers": headers})
        await send({"type": f"{kind}.body", "body": body})


def _audit(connection: PeerConnection, reason: str, scope: Any, checks: Checks) -> None:
    is_verified = checks.service_authentication is Check.PASSED
    identity = connection.identity if is_verified else None
    tracing.record_on_span(allowed=False, identity=identity, scope=scope)
    audit.record(
        _event(scope),
        allowed=False,
        peer=connection.address,
        spiffe_id=connection.spiffe_id,
        verified=is_verified,
        method=scope.get("method", "websocket"),
        path=scope["path"],
        reason=reason,
        generation=connection.generation,
        tls=tls_version(scope),
        user=user_names(scope),
        checks=checks,
        forwarded=forwarded_identity(scope),
    )


def _event(scope: Any) -> audit.Event:
    return "websocket" if scope["type"] == "websocket" else "request"


def _log(connection: PeerConnection, reason: str, scope: Any) -> None:
    method = scope.get("method", "websocket")
    forwarded = forwarded_identity(scope)
    log_refusal(
        "request",
        reason,
        address=connection.address,
        spiffe_id=connection.spiffe_id,
        detail=f"{method!r} {scope['path']!r}"
        + ("" if forwarded is None else f" on behalf of {forwarded}"),
    )
