# SPDX-License-Identifier: Apache-2.0
"""One rule on one operation: what the path tries hold, with its answer made beforehand.

Rules:
    1. GET covers HEAD. A deny rule for GET covers WebSocket handshakes as well, which are GETs, and
       one for POST covers gRPC calls, which are POSTs.
    2. A deny rule for a path covers it with a trailing slash as well: some frameworks serve both.
    3. An allow rule without methods covers every HTTP method, but no pseudo-method.
    4. Of several allow rules, one that needs no end user is found first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubetls_sdk.authz.condition import Condition, holds
from kubetls_sdk.authz.decision import Decision, Kind
from kubetls_sdk.authz.details import GRPC, WEBSOCKET
from kubetls_sdk.authz.model import Effect, Operation, Policy, Rule
from kubetls_sdk.authz.request import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubetls_sdk.authz.template import PathTemplate

__all__ = ("Branch", "branches_of", "covered")


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """A rule, narrowed to one operation and the templates with the same variables.

    Attributes:
        order: Sorting key: denies, then allows without end user, then by name of policy and rule.
        methods: Methods with what they cover; None for all.
        patterns: Segments and whether more may follow.
        variables: Path variables and the index of their segment.
        conditions: What is left to check.
        decision: The answer when everything holds.
        is_deny: Whether the rule denies.
    """

    order: tuple[int, str, str]
    methods: frozenset[str] | None
    patterns: tuple[tuple[tuple[str, ...], bool], ...]
    variables: tuple[tuple[str, int], ...]
    conditions: tuple[Condition, ...]
    decision: Decision
    is_deny: bool

    def is_met(self, request: Request) -> bool:
        """Whether all conditions hold; of a deny rule, whether none is surely false."""
        request = self._bound(request)
        return all(holds(each, request, closed=self.is_deny) for each in self.conditions)

    def unmet(self, request: Request) -> tuple[Condition, ...]:
        """The conditions that do not hold."""
        request = self._bound(request)
        return tuple(
            condition
            for condition in self.conditions
            if not holds(condition, request, closed=self.is_deny)
        )

    def _bound(self, request: Request) -> Request:
        if not self.variables:
            return request
        segments = request.path.split("/")
        variables = tuple((name, segments[index]) for name, index in self.variables)
        return Request(request.caller, request.method, request.path, request.details, variables)


def covered(methods: frozenset[str], *, is_deny: bool) -> frozenset[str]:
    """The methods of a rule with those that they cover."""
    more = {"HEAD"} if "GET" in methods else set()
    if is_deny:
        more |= {WEBSOCKET} if "GET" in methods else set()
        more |= {GRPC} if "POST" in methods else set()
    return methods | more


def branches_of(policy: Policy, rule: Rule) -> Iterator[Branch]:
    """Take a rule apart into what the index holds."""
    is_deny = rule.effect is Effect.DENY
    decision = _decision(policy, rule)
    for operation in rule.operations:
        conditions = operation.conditions + rule.conditions
        methods = _covered(operation, is_deny=is_deny)
        for variables, templates in _by_variables(operation, conditions).items():
            yield Branch(
                order=(_rank(rule), policy.name, rule.name),
                methods=methods,
                patterns=tuple(
                    pattern for t in templates for pattern in _patterns(t, is_deny=is_deny)
                ),
                variables=variables,
                conditions=conditions,
                decision=decision,
                is_deny=is_deny,
            )


def _rank(rule: Rule) -> int:
    if rule.effect is Effect.DENY:
        return 0
    return 1 if rule.is_user_optional else 2


def _decision(policy: Policy, rule: Rule) -> Decision:
    is_deny = rule.effect is Effect.DENY
    return Decision(
        allowed=not is_deny,
        kind=Kind.DENIED if is_deny else Kind.ALLOWED,
        reason=f"rule {rule.name!r} of policy {policy.name!r} {'denies' if is_deny else 'allows'}",
        policy=policy.name,
        rule=rule.name,
        is_user_optional=rule.is_user_optional,
    )


def _covered(operation: Operation, *, is_deny: bool) -> frozenset[str] | None:
    if operation.methods is None:
        return None
    return covered(operation.methods, is_deny=is_deny)


def _by_variables(
    operation: Operation, conditions: tuple[Condition, ...]
) -> dict[tuple[tuple[str, int], ...], list[PathTemplate]]:
    asks = any(condition.variables for condition in conditions)
    grouped: dict[tuple[tuple[str, int], ...], list[PathTemplate]] = {}
    for template in operation.templates:
        grouped.setdefault(template.variables if asks else (), []).append(template)
    return grouped


def _patterns(template: PathTemplate, *, is_deny: bool) -> Iterator[tuple[tuple[str, ...], bool]]:
    yield template.segments, template.is_prefix
    if is_deny and not template.is_prefix and template.segments[-1]:
        yield template.with_slash().segments, False
