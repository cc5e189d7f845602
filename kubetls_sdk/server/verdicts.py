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
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubetls_sdk.authz import Decision, PolicySet, refusal
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.authorizer import Authorizer
from kubetls_sdk.server.scope_details import ScopeDetails

if TYPE_CHECKING:
    from kubetls_sdk.server.connection import PeerConnection

__all__ = ("REMEMBERED", "Verdicts")

REMEMBERED = 2048
_MAX_PATH = 256


class Verdicts:
    """The policy of one middleware.

    Args:
        policy: An authorizer, or a holder of one as `.current`.

    Raises:
        ConfigurationError: Neither.
    """

    __slots__ = ("_allowed", "_holder")

    def __init__(self, policy: Any) -> None:
        if not hasattr(policy, "current") and not isinstance(policy, Authorizer):
            raise ConfigurationError(f"expected a policy, got {policy!r}")
        self._holder: Any = policy if hasattr(policy, "current") else _Fixed(policy)
        self._allowed: tuple[Any, set[tuple[Any, ...]]] = (None, set())

    @property
    def current(self) -> Any:
        """The policy in force."""
        return self._holder.current

    def has_allowed(
        self, connection: PeerConnection, method: str, path: str, raw_path: bytes | None
    ) -> bool:
        """Tell whether the policy in force has allowed an equal request before."""
        policy, known = self._allowed
        return (
            self._holder.current is policy
            and (connection.identity, method, path, raw_path) in known
        )

    def decide(
        self, connection: PeerConnection, method: str, scope: Any, host_count: int
    ) -> Decision | str:
        """Judge a request: the policy's decision, or why it is not canonical."""
        path, raw_path = scope["path"], scope.get("raw_path")
        malformed = refusal(method, path, raw_path, host_count)
        if malformed is not None:
            return malformed
        policy, details = self._holder.current, ScopeDetails(scope)
        decision: Decision = policy.decide(connection.spiffe_id, method, path, details)
        if decision.allowed and not details.is_touched and type(policy) is PolicySet:
            self._remember((connection.identity, method, path, raw_path), policy)
        return decision

    def _remember(self, request: tuple[Any, ...], policy: PolicySet) -> None:
        if len(request[2]) > _MAX_PATH:
            return
        last, known = self._allowed
        if policy is not last or len(known) >= REMEMBERED:
            known = set()
            self._allowed = (policy, known)
        known.add(request)


class _Fixed:
    """Holds an authorizer that never changes."""

    __slots__ = ("current",)

    def __init__(self, authorizer: Authorizer) -> None:
        self.current = authorizer
