# SPDX-License-Identifier: Apache-2.0
"""Authentication and authorization of gRPC calls, without the ways that calls are served.

Rules:
    1. Fail closed, in this order: the peer is verified, the path is canonical, a token that came
       with the call proves a user, the policy allows.
    2. The caller is told a status and nothing more; log and audit record say who, what and why.
    3. A method that does not exist is refused like one that does.
    4. Methods are opened to every verified workload by exact name only.
"""

from __future__ import annotations

import re
from time import time
from typing import TYPE_CHECKING, Any, Final

import grpc

from kubetls_sdk.authz import GRPC, PolicySet
from kubetls_sdk.checks import not_decided
from kubetls_sdk.exceptions import ConfigurationError, CredentialError
from kubetls_sdk.server._grpc_details import GrpcDetails
from kubetls_sdk.server._grpc_entry import Entry, RefusedCallError
from kubetls_sdk.server._grpc_peer import PeerVerdicts, presented_by
from kubetls_sdk.server._grpc_record import (
    record_decision,
    record_denial,
    record_end,
    record_lost_peer,
    record_lost_user,
    record_refusal,
)
from kubetls_sdk.server.record import is_recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from cryptography.x509 import Certificate

    from kubetls_sdk.authz import Decision
    from kubetls_sdk.server._grpc_peer import Presented
    from kubetls_sdk.server._grpc_users import UserCheck
    from kubetls_sdk.source import Source
    from kubetls_sdk.users.authentication import Users

__all__ = ("USER_GRACE_SECONDS", "Door", "Gate", "is_canonical")

USER_GRACE_SECONDS = 5.0
"""How long after the end of its user's token a single answer is still given."""

is_canonical: Final = re.compile(
    r"/[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII
).fullmatch

_UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
_DENIED = grpc.StatusCode.PERMISSION_DENIED


class Gate:
    """Decides about each call of one server.

    Args:
        source: Whom we trust.
        policy: A holder of an authorizer as `.current`, or an authorizer.
        open_methods: Exact paths that every verified workload may call without asking the policy.
        intermediates: See `PeerVerdicts`.
        users: Authenticates end users as well.
        ports: See `GrpcDetails`.
        allow_tls12: See `PeerVerdicts`.

    Attributes:
        reason_against: Says why a peer that was admitted is refused now, or None.
        open_methods: As given.
        users: Of the calls; None without.

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
        users: Users | None = None,
        ports: Collection[int | None] = (),
        allow_tls12: bool = False,
    ) -> None:
        self.verdicts = PeerVerdicts(source, intermediates, allow_tls12=allow_tls12)
        self.reason_against = self.verdicts.reason_against
        self._holder: Any = policy if hasattr(policy, "current") else _Fixed(policy)
        self._ports = ports
        self.users = None if users is None else _user_check(users)
        self.open_methods = frozenset(open_methods)
        for method in self.open_methods:
            if is_canonical(method) is None:
                raise ConfigurationError(f"expected '/package.Service/Method', got {method!r}")

    @property
    def current_policy(self) -> Any:
        """The policy in force."""
        return self._holder.current

    def details(self, context: Any, entry: Entry) -> GrpcDetails:
        """The rest of a call, as rules may ask for it."""
        return GrpcDetails(context, entry.user, self._ports)

    def check(self, entry: Entry, context: Any) -> None:
        """Check before a single answer that peer and user are still trusted.

        Raises:
            RefusedCallError: One is not.
        """
        self.check_peer(entry, context)
        if entry.user is not None and time() >= entry.user_until + USER_GRACE_SECONDS:
            record_lost_user(context, entry)
            raise RefusedCallError(_UNAUTHENTICATED)

    def check_peer(self, entry: Entry, context: Any) -> None:
        """Check that the peer of a call is still trusted.

        Raises:
            RefusedCallError: It is not.
        """
        reason = self.reason_against(entry.verdict)
        if reason is not None:
            record_lost_peer(entry.verdict, reason, context)
            raise RefusedCallError(_UNAUTHENTICATED)

    def authorize(self, context: Any, entry: Entry) -> None:
        """Ask the policy about a call.

        Raises:
            RefusedCallError: It says no, or the call lacks a user.
        """
        policy, details = self.current_policy, self.details(context, entry)
        caller = entry.verdict.caller.spiffe_id
        decision: Decision = policy.decide(caller, GRPC, entry.method, details)
        if self.users is not None:
            self.users.require(context, decision, entry)
        if is_recorded():
            record_decision(context, decision, entry, details)
        if not decision.allowed:
            record_denial(context, decision, entry)
            raise RefusedCallError(_DENIED)
        if not details.is_touched and self.users is None and type(policy) is PolicySet:
            entry.verdict.allow(policy, entry.method)

    def is_allowed(self, entry: Entry) -> bool:
        """Whether the policy in force has allowed such a call, and would any other like it.

        That holds for what a `PolicySet` said that looked at caller and method alone.
        """
        policy, methods = entry.verdict.allowed
        return policy is self._holder.current and entry.method in methods and not is_recorded()

    def denial(self, policy: Any, context: Any, entry: Entry) -> str | None:
        """Decide again about a call under way; says why it has to end, or None."""
        if entry.method in self.open_methods:
            return None
        details = self.details(context, entry)
        caller = entry.verdict.caller.spiffe_id
        decision: Decision = policy.decide(caller, GRPC, entry.method, details)
        lacks_user = self.users is not None and self.users.lacks_user(decision, entry)
        if decision.allowed and not lacks_user:
            return None
        return record_end(context, decision, entry, details)


class Door:
    """Lets calls of one method in.

    Args:
        gate: Of the server.
        method: The path as it was sent.
        presented: Reads what the peer of a call has presented.
    """

    __slots__ = ("_about", "_is_fit", "_is_open", "_presented", "_users", "gate", "method")

    def __init__(
        self, gate: Gate, method: str, presented: Callable[[Any], Presented] = presented_by
    ) -> None:
        self.gate = gate
        self.method = method
        self._presented = presented
        self._about = gate.verdicts.about
        self._users = gate.users
        self._is_fit = is_canonical(method) is not None
        self._is_open = method in gate.open_methods

    def admit(self, context: Any) -> Entry:
        """Let a call in, in a thread that may wait.

        Args:
            context: The servicer context.

        Raises:
            RefusedCallError: Who calls may not; that is logged already.
        """
        entry = self._recognize(context)
        if self._users is not None:
            self._users.admit(context, entry)
        if not self._is_open and not self.gate.is_allowed(entry):
            self.gate.authorize(context, entry)
        return entry

    async def admit_soon(self, context: Any) -> Entry:
        """Let a call in, in an event loop; the rest is as of `admit`."""
        if self._users is None:
            return self.admit(context)
        entry = self._recognize(context)
        await self._users.admit_soon(context, entry)
        if not self._is_open:
            self.gate.authorize(context, entry)
        return entry

    def _recognize(self, context: Any) -> Entry:
        """Find out who calls, and judge the path."""
        try:
            verdict = self._about(self._presented(context))
        except CredentialError as err:
            reason = f"our own credentials are not available: {err}"
            record_refusal(context, self.method, reason, not_decided(is_known=None))
            raise RefusedCallError(_UNAUTHENTICATED) from err
        if verdict.reason is not None:
            checks = not_decided(is_known=None)
            record_refusal(context, self.method, verdict.reason, checks, verdict=verdict)
            raise RefusedCallError(_UNAUTHENTICATED)
        if not self._is_fit:
            checks, reason = not_decided(is_known=True), "the path is not canonical"
            record_refusal(context, self.method, reason, checks, verdict=verdict)
            raise RefusedCallError(_DENIED)
        return Entry(self.gate, self.method, verdict)


class _Fixed:
    """Holds an authorizer that never changes."""

    __slots__ = ("current",)

    def __init__(self, authorizer: Any) -> None:
        self.current = authorizer


def _user_check(users: Users) -> UserCheck:
    from kubetls_sdk.server._grpc_users import UserCheck

    return UserCheck(users)
