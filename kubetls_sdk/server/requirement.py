# SPDX-License-Identifier: Apache-2.0
"""What a single route requires beyond the policy's answer to its request.

`kubetls_sdk.server.starlette` and `kubetls_sdk.server.fastapi` put it on routes.

Rules:
    1. The decision is `authorize`'s: policy, caller and user of the request at hand.
    2. Each decision is in the audit log, as event `action`: `method` is the action, `path` the kind
       of the resource. What the resource is, is not written.
    3. The caller is told 401 or 403 as by the middleware, and nothing more.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubetls_sdk import audit, metrics
from kubetls_sdk.authz.decision import Kind
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.authorize import authorize
from kubetls_sdk.server.connection import EXTENSION
from kubetls_sdk.server.end_user import USER_KEY, user_names
from kubetls_sdk.server.forwarded import forwarded_identity
from kubetls_sdk.server.record import tls_version
from kubetls_sdk.server.refusal import Refusal
from kubetls_sdk.server.refusal_log import log_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kubetls_sdk.authz import Decision
    from kubetls_sdk.server.connection import PeerConnection

__all__ = ("Requirement",)


@dataclass(frozen=True, slots=True)
class Requirement:
    """An action on a kind of resource.

    Attributes:
        action: As rules name it in `actions`.
        resource: As rules name it in `resources`.
        attributes: Makes of a request what rules may ask for as `resource.<name>`; may be a
            coroutine function where the route is one.
    """

    action: str
    resource: str
    attributes: Callable[[Any], Any] | None = None

    async def refusal(self, request: Any) -> Refusal | None:
        """Decide about a request; None when it is allowed."""
        found = {} if self.attributes is None else self.attributes(request)
        return self._decide(request, await found if inspect.isawaitable(found) else found)

    def refusal_blocking(self, request: Any) -> Refusal | None:
        """Likewise, for a route that is no coroutine function."""
        return self._decide(request, {} if self.attributes is None else self.attributes(request))

    def check_blocking(self) -> None:
        """Make sure that a route that is no coroutine function can have it.

        Raises:
            ConfigurationError: The attributes need a coroutine.
        """
        if inspect.iscoroutinefunction(self.attributes):
            raise ConfigurationError("expected attributes without await, since the route has none")

    def _decide(self, request: Any, attributes: Mapping[str, object]) -> Refusal | None:
        decision = authorize(request, self.action, self.resource, **attributes)
        connection: PeerConnection = request.scope["extensions"][EXTENSION]
        self._record(decision, connection, request.scope)
        if decision.allowed:
            return None
        self._log(decision, connection)
        if decision.kind is Kind.USER_REQUIRED and request.scope.get(USER_KEY, "") is None:
            from kubetls_sdk.users.user import NO_TOKEN_CHALLENGE

            return Refusal(401, challenge=NO_TOKEN_CHALLENGE)
        return Refusal(403)

    def _record(self, decision: Decision, connection: PeerConnection, scope: Any) -> None:
        verdict = "action-allowed" if decision.allowed else "action-denied"
        metrics.count_request(verdict, decision.rule or "")
        audit.record_decision(
            "action",
            decision,
            peer=connection.address,
            spiffe_id=connection.identity,
            method=self.action,
            path=self.resource,
            generation=connection.generation,
            tls=tls_version(scope),
            user=user_names(scope),
            is_user_asked=True,
            forwarded=forwarded_identity(scope),
        )

    def _log(self, decision: Decision, connection: PeerConnection) -> None:
        rule = f" by rule {decision.rule!r}" if decision.rule else ""
        log_refusal(
            "request",
            f"policy {decision.kind}{rule}: {decision.reason}",
            address=connection.address,
            spiffe_id=connection.spiffe_id,
            detail=f"action {self.action!r} on {self.resource!r}",
        )
