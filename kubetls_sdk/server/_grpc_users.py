# SPDX-License-Identifier: Apache-2.0
"""The end users of gRPC calls; imported only where users are authenticated.

Rules:
    1. A token that proves nothing is UNAUTHENTICATED, whatever the policy says of calls without.
    2. Without a token a call is refused unless its rule says `user: optional`.
    3. A peer that was refused while keys were fetched is refused, whoever its user is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from kubetls_sdk import metrics
from kubetls_sdk.authz.decision import Kind
from kubetls_sdk.checks import not_decided
from kubetls_sdk.server._grpc_details import headers_of
from kubetls_sdk.server._grpc_entry import RefusedCallError
from kubetls_sdk.server._grpc_record import record_refusal
from kubetls_sdk.users.authentication import KeysWanted
from kubetls_sdk.users.user import NO_TOKEN_CHALLENGE, TokenRefused, User

if TYPE_CHECKING:
    from kubetls_sdk.authz.decision import Decision
    from kubetls_sdk.checks import Checks
    from kubetls_sdk.server._grpc_entry import Entry
    from kubetls_sdk.users.authentication import Users

__all__ = ("UserCheck",)

_NO_TOKEN = "it has no user token"  # noqa: S105 - a reason


class UserCheck:
    """Authenticates the users of one server.

    Args:
        users: Who does it; its maker starts and closes it.
    """

    __slots__ = ("_users",)

    def __init__(self, users: Users) -> None:
        self._users = users

    def admit(self, context: Any, entry: Entry) -> None:
        """Authenticate the user of a call, in a thread that may wait for keys.

        Raises:
            RefusedCallError: A token proves nothing, or the peer was refused meanwhile.
        """
        headers, peer = headers_of(context), entry.verdict.caller.peer
        found = self._users.authenticate(headers, peer)
        if isinstance(found, KeysWanted):
            found = self._users.resolve_blocking(headers, peer)
            entry.gate.check_peer(entry, context)
        _accept(context, entry, found)

    async def admit_soon(self, context: Any, entry: Entry) -> None:
        """Do the same in an event loop, which goes on meanwhile."""
        headers, peer = headers_of(context), entry.verdict.caller.peer
        found = self._users.authenticate(headers, peer)
        if isinstance(found, KeysWanted):
            found = await self._users.resolve(headers, peer)
            entry.gate.check_peer(entry, context)
        _accept(context, entry, found)

    def lacks_user(self, decision: Decision, entry: Entry) -> bool:
        """Whether a call has no user, and its decision wants one."""
        return entry.user is None and (
            decision.kind is Kind.USER_REQUIRED
            or (decision.allowed and not decision.is_user_optional)
        )

    def require(self, context: Any, decision: Decision, entry: Entry) -> None:
        """Refuse a call without user that needs one, whatever else the policy says of it.

        Raises:
            RefusedCallError: It does.
        """
        if self.lacks_user(decision, entry):
            checks = not_decided(is_known=True, is_user_refused=True, is_service_allowed=True)
            raise _refused(context, entry, _NO_TOKEN, checks, NO_TOKEN_CHALLENGE)


def _accept(context: Any, entry: Entry, found: User | TokenRefused | None) -> None:
    if metrics.is_enabled():
        metrics.increment(metrics.USER_TOKENS, result=_result(found))
    if isinstance(found, TokenRefused):
        checks = not_decided(is_known=True, is_user_refused=True)
        raise _refused(context, entry, f"user: {found.reason}", checks, found.challenge)
    if found is not None:
        entry.user = found
        entry.user_until = found.expires_at.timestamp()


def _result(found: User | TokenRefused | None) -> str:
    if found is None:
        return "absent"
    return "refused" if isinstance(found, TokenRefused) else "accepted"


def _refused(
    context: Any, entry: Entry, reason: str, checks: Checks, challenge: str
) -> RefusedCallError:
    record_refusal(context, entry.method, reason, checks, verdict=entry.verdict)
    return RefusedCallError(grpc.StatusCode.UNAUTHENTICATED, challenge=challenge)
