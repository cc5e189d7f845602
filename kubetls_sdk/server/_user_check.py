# SPDX-License-Identifier: Apache-2.0
"""The end-user part of the middleware. Imported only where users are authenticated.

Rules:
    1. A token that proves nothing is a 401, whatever the policy says about requests without one.
    2. Without a token the request is refused unless its rule says `user: optional`.
    3. What a user has begun ends with the token: a WebSocket at once, an answer that is under way
       after a grace.
"""

from __future__ import annotations

import asyncio
from time import time
from typing import TYPE_CHECKING, Any

from kubetls_sdk import metrics
from kubetls_sdk.authz.decision import Kind
from kubetls_sdk.server.connection import EXTENSION
from kubetls_sdk.server.end_user import USER_KEY
from kubetls_sdk.server.forwarded import FORWARDED_KEY
from kubetls_sdk.server.refusal import Refusal
from kubetls_sdk.server.refusal_log import log_refusal
from kubetls_sdk.users.authentication import KeysWanted
from kubetls_sdk.users.user import NO_TOKEN_CHALLENGE, TokenRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kubetls_sdk.authz.decision import Decision
    from kubetls_sdk.server.connection import PeerConnection
    from kubetls_sdk.users.authentication import Users

__all__ = ("UserCheck",)

_NO_TOKEN = "it has no user token"  # noqa: S105 - a reason
_EXPIRED = "the user's token expired"


class UserCheck:
    """Authenticates the users of one middleware.

    Args:
        users: Who does it; the caller starts and closes it.
        grace: Seconds that an answer may go on after its token has expired.
    """

    __slots__ = ("_grace", "users")

    def __init__(self, users: Users, grace: float) -> None:
        self.users = users
        self._grace = grace

    async def admit(self, scope: Any, connection: PeerConnection) -> Refusal | None:
        """Authenticate the user of a request; None when nothing is refused yet.

        Args:
            scope: Gets the user.
            connection: What the request came on; its peer has been checked.
        """
        scope[USER_KEY] = None
        found = self.users.authenticate(scope["headers"], connection.peer)
        if isinstance(found, KeysWanted):
            found = await self.users.resolve(scope["headers"], connection.peer)
            refused = _refused_meanwhile(scope, connection)
            if refused is not None:
                return refused
        if metrics.is_enabled():
            metrics.increment(metrics.USER_TOKENS, result=_result(found))
        if isinstance(found, TokenRefused):
            return Refusal.no_user(
                connection, f"user: {found.reason}", scope, challenge=found.challenge
            )
        scope[USER_KEY] = scope["state"]["user"] = found
        return None

    def has_user(self, scope: Any) -> bool:
        """Whether a user was authenticated."""
        return scope[USER_KEY] is not None

    def lacks_user(self, decision: Decision, scope: Any) -> bool:
        """Whether a request has no user, and its decision wants one."""
        return not self.has_user(scope) and (
            decision.kind is Kind.USER_REQUIRED
            or (decision.allowed and not decision.is_user_optional)
        )

    def refusal(self, decision: Decision, connection: PeerConnection, scope: Any) -> Refusal | None:
        """Refuse a request without user that needs one, whatever else the policy says of it."""
        if self.lacks_user(decision, scope):
            return Refusal.no_user(
                connection,
                _NO_TOKEN,
                scope,
                challenge=NO_TOKEN_CHALLENGE,
                is_service_allowed=True,
            )
        return None

    async def serve(self, scope: Any, serving: Awaitable[None]) -> None:
        """Serve a request, not much longer than its user's token is valid."""
        if not self.has_user(scope):
            await serving
            return
        limit = asyncio.timeout(_seconds_left(scope) + self._grace)
        try:
            async with limit:
                await serving
        except TimeoutError:
            if not limit.expired():
                raise
            _log_end(scope)

    def expire(self, scope: Any, end: Callable[[str], None]) -> asyncio.TimerHandle | None:
        """Call `end` when the user's token expires; cancel what is returned."""
        if not self.has_user(scope):
            return None

        def expired() -> None:
            _log_end(scope)
            end(_EXPIRED)

        return asyncio.get_running_loop().call_later(_seconds_left(scope), expired)


def _refused_meanwhile(scope: Any, connection: PeerConnection) -> Refusal | None:
    """Judge peer and forwarded client again after a wait, in which both may have lost trust."""
    reason = connection.refusal()
    if reason is not None:
        return Refusal.unauthenticated(connection, reason, scope, ends=True)
    client: PeerConnection | None = scope.get(FORWARDED_KEY)
    reason = None if client is None else client.refusal()
    if reason is not None:
        return Refusal.unproven_client(connection, f"forwarded certificate: {reason}", scope)
    return None


def _result(answer: object) -> str:
    if answer is None:
        return "absent"
    return "refused" if isinstance(answer, TokenRefused) else "accepted"


def _seconds_left(scope: Any) -> float:
    left: float = scope[USER_KEY].expires_at.timestamp() - time()
    return left


def _log_end(scope: Any) -> None:
    connection: PeerConnection = scope["extensions"][EXTENSION]
    log_refusal(
        "request",
        _EXPIRED,
        address=connection.address,
        spiffe_id=connection.spiffe_id,
        detail=f"{scope.get('method', 'websocket')!r} {scope['path']!r}",
    )
