# SPDX-License-Identifier: Apache-2.0
"""The answer of the engine: allowed or not, by which rule, and what would have been needed.

Rules:
    1. Only `Kind.ALLOWED` is allowed; every other kind says which step refused.
    2. A decision never holds request text, claims or tokens: it may be logged as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ("Decision", "Kind")


class Kind(StrEnum):
    """Which step of the evaluation decided."""

    ALLOWED = "allowed"
    """An allow rule matches and no deny rule does."""

    DENIED = "denied"
    """A deny rule matches."""

    NO_POLICY = "no-policy"
    """The set has no rule at all."""

    NO_RULE_FOR_CALLER = "no-rule-for-caller"
    """No allow rule names this caller."""

    NO_RULE_FOR_OPERATION = "no-rule-for-operation"
    """Allow rules name this caller, but not with this method and path."""

    CONDITION_UNMET = "condition-unmet"
    """An allow rule names caller and operation, but one of its conditions does not hold."""

    USER_REQUIRED = "user-required"
    """As `CONDITION_UNMET`, and the condition asks about an end user while there is none."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says about one request.

    Attributes:
        allowed: The whole answer.
        kind: Which step decided.
        reason: One clause for an audit record; not meant for the caller.
        policy: Name of the policy whose rule decided, None when no rule did.
        rule: Name of the rule that decided, None when no rule did.
        needed: What would have been needed instead, in the words of the policy.
        shadow: What would have been decided if the shadow policies were enforced, when that
            differs from this decision.
        is_user_optional: Whether the rule that allowed it is fine with a request without an end
            user, where the server authenticates users.
    """

    allowed: bool
    kind: Kind
    reason: str
    policy: str | None = None
    rule: str | None = None
    needed: tuple[str, ...] = ()
    shadow: Decision | None = None
    is_user_optional: bool = False
