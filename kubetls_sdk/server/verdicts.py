# SPDX-License-Identifier: Apache-2.0
"""Asks the policy about requests, and remembers what it said about equal ones.

A decision of a `PolicySet` that looked at nothing but caller, method and path is the same for the
next equal request, so it is made once. This holds for allowed requests only, until the policy
changes, and for at most `REMEMBERED` of them.

Rules:
    1. Nothing is remembered of an authorizer that is not a `PolicySet`: it may look at anything.
    2. Nothing is remembered of a decision that looked at the details of its request.
    3. A changed policy forgets everything before it is asked; policy and what it allowed are one
       value, so that no thread ever sees one with the other's.
    4. What is remembered is small: callers choose paths, so long ones are decided each time.
    5. What let a request in is in its scope, so that the same can be asked again later, whatever
       the application has done to the scope.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from kubetls_sdk.authz import Decision, Kind, PolicySet, refusal
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.authorizer import Authorizer
from kubetls_sdk.server.scope_details import ScopeDetails

if TYPE_CHECKING:
    from kubetls_sdk.server._quick_record import Trace
    from kubetls_sdk.server.connection import PeerConnection

__all__ = ("PUBLIC", "REMEMBERED", "Admission", "Verdicts")

REMEMBERED = 2048
_MAX_PATH = 256

PUBLIC: Final = Decision(True, Kind.ALLOWED, "an anonymous path")
"""On an anonymous path, everybody is let in."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What let a request in; shared by equal requests.

    Attributes:
        verdicts: Of the middleware.
        decision: `PUBLIC` where the policy was not asked.
        method: As the policy was asked.
        path: Likewise.
        trace: What is written of such requests, of the quick way alone; see `_quick_record`.
    """

    verdicts: Verdicts
    decision: Decision
    method: str
    path: str
    trace: Trace | None = field(default=None, init=False, repr=False, compare=False)

    def decide_again(self, connection: PeerConnection, scope: Any) -> Decision:
        """Ask the policy in force about the same request."""
        policy, details = self.verdicts.current, ScopeDetails(scope)
        decision: Decision = policy.decide(connection.spiffe_id, self.method, self.path, details)
        return decision


class Verdicts:
    """The policy of one middleware.

    Args:
        policy: An authorizer, or a holder of one as `.current`.

    Attributes:
        holder: Has the policy in force as `.current`.
        remembered: The policy that was asked last, and what it allowed, by caller, method, path and
            raw path.

    Raises:
        ConfigurationError: Neither.
    """

    __slots__ = ("holder", "remembered")

    def __init__(self, policy: Any) -> None:
        if not hasattr(policy, "current") and not isinstance(policy, Authorizer):
            raise ConfigurationError(
                f"expected a policy such as PolicyFile(...) or AnyVerified(), got {policy!r}"
            )
        self.holder: Any = policy if hasattr(policy, "current") else _Fixed(policy)
        self.remembered: tuple[Any, dict[tuple[Any, ...], Admission]] = (None, {})

    @property
    def current(self) -> Any:
        """The policy in force."""
        return self.holder.current

    def allowed_before(
        self, connection: PeerConnection, method: str, path: str, raw_path: bytes | None
    ) -> Admission | None:
        """Return how the policy in force allowed an equal request before, None if it has not."""
        policy, known = self.remembered
        if self.holder.current is not policy:
            return None
        return known.get((connection.identity, method, path, raw_path))

    def decide(
        self, connection: PeerConnection, method: str, scope: Any, host_count: int
    ) -> Decision | str:
        """Judge a request: the policy's decision, or why it is not canonical."""
        path, raw_path = scope["path"], scope.get("raw_path")
        malformed = refusal(method, path, raw_path, host_count)
        if malformed is not None:
            return malformed
        policy, details = self.holder.current, ScopeDetails(scope)
        decision: Decision = policy.decide(connection.spiffe_id, method, path, details)
        if decision.allowed and not details.is_touched and type(policy) is PolicySet:
            self._remember((connection.identity, method, path, raw_path), policy, decision)
        return decision

    def _remember(self, request: tuple[Any, ...], policy: PolicySet, decision: Decision) -> None:
        if len(request[2]) > _MAX_PATH:
            return
        last, known = self.remembered
        if policy is not last or len(known) >= REMEMBERED:
            known = {}
            self.remembered = (policy, known)
        known[request] = Admission(self, decision, request[1], request[2])


class _Fixed:
    """Holds an authorizer that never changes."""

    __slots__ = ("current",)

    def __init__(self, authorizer: Authorizer) -> None:
        self.current = authorizer
