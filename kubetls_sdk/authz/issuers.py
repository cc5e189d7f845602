# SPDX-License-Identifier: Apache-2.0
"""Whether rules about users say whose users: a subject means nothing without its issuer.

Rules:
    1. Where several issuers vouch for users, an allow rule with `user.<claim>` names `user.iss`. A
       deny rule may speak of the users of all issuers: that only denies more.
    2. An issuer that is named has to be one that is configured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubetls_sdk.authz.attribute import Attribute
from kubetls_sdk.authz.condition import Operator
from kubetls_sdk.authz.model import Effect
from kubetls_sdk.exceptions import PolicyError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from kubetls_sdk.authz.condition import Condition
    from kubetls_sdk.authz.model import Policy, Rule
    from kubetls_sdk.authz.policy_set import PolicySet

__all__ = ("check_issuers",)

_ISSUER = Attribute("user", ("iss",))


def check_issuers(
    policies: PolicySet, issuers: Collection[str], *, pause: Callable[[], None] = lambda: None
) -> None:
    """Check every rule about users.

    Args:
        policies: A set.
        issuers: Everybody who vouches for users; more than one makes naming one a duty.
        pause: Called after each rule, so that a background load lets other threads run.

    Raises:
        PolicyError: A rule names no issuer, or an unknown one; `.file`, `.line`, `.rule` say which.
    """
    for policy in policies.policies:
        for rule in policy.rules:
            _check(policy, rule, issuers)
            pause()


def _check(policy: Policy, rule: Rule, issuers: Collection[str]) -> None:
    named = [name for condition in rule.conditions for name in _named(condition)]
    unknown = [name for name in named if name not in issuers]
    if unknown:
        known = ", ".join(map(repr, issuers))
        raise _error(policy, rule, f"expected user.iss of {known}, got {unknown[0]!r}")
    asks = any(each.needs_user for each in rule.conditions)
    if asks and not named and len(issuers) > 1 and rule.effect is Effect.ALLOW:
        example = f"user.iss == {min(issuers)!r}"
        raise _error(policy, rule, f"expected the issuer beside other claims, as in {example}")


def _named(condition: Condition) -> Iterator[str]:
    if condition.attribute != _ISSUER:
        return
    if condition.operator is Operator.EQUAL and isinstance(condition.operand, str):
        yield condition.operand
    elif condition.operator is Operator.IN and isinstance(condition.operand, tuple):
        yield from (str(each) for each in condition.operand)


def _error(policy: Policy, rule: Rule, message: str) -> PolicyError:
    return PolicyError(message, file=policy.file or None, line=rule.line or None, rule=rule.name)
