# SPDX-License-Identifier: Apache-2.0
"""Why a request is decided as it is: every rule, and what it misses.

Rules:
    1. Rules are tried one by one, without the index; a property test holds both to one answer.
    2. An explanation quotes the policy and the request's caller, method and path; never claims or
       header values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubetls_sdk.authz.branch import branches_of
from kubetls_sdk.authz.details import NO_DETAILS, PSEUDO_METHODS
from kubetls_sdk.authz.model import Effect, Mode
from kubetls_sdk.authz.request import Request
from kubetls_sdk.authz.template import PathTemplate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubetls_sdk.authz.branch import Branch
    from kubetls_sdk.authz.decision import Decision
    from kubetls_sdk.authz.details import Details
    from kubetls_sdk.authz.model import Identity, Policy, Rule
    from kubetls_sdk.authz.policy_set import PolicySet
    from kubetls_sdk.spiffe_id import SpiffeId

__all__ = ("Explanation", "RuleVerdict", "explain")


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """What one rule says.

    Attributes:
        policy: Name of its policy.
        rule: Its name.
        effect: Allow or deny.
        mode: Whether its policy counts.
        file: Where it is written.
        line: 1-based.
        misses: Why it does not match, the closest alternative only; empty when it matches.
    """

    policy: str
    rule: str
    effect: Effect
    mode: Mode
    file: str
    line: int
    misses: tuple[str, ...]

    @property
    def is_match(self) -> bool:
        """Whether the rule matches."""
        return not self.misses


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with what each rule had to say.

    Attributes:
        decision: As the engine made it.
        verdicts: Of every rule, the closest first.
    """

    decision: Decision
    verdicts: tuple[RuleVerdict, ...]

    @property
    def is_allowed(self) -> bool:
        """The answer by the verdicts alone; always that of the decision."""
        effects = {v.effect for v in self.verdicts if v.is_match and v.mode is Mode.ENFORCE}
        return effects == {Effect.ALLOW}


def explain(
    policies: PolicySet,
    caller: SpiffeId | None,
    method: str,
    path: str,
    details: Details = NO_DETAILS,
) -> Explanation:
    """Decide, and say of each rule whether and why (not).

    Args:
        policies: The set.
        caller: As for `PolicySet.decide`.
        method: As for `PolicySet.decide`.
        path: As for `PolicySet.decide`.
        details: As for `PolicySet.decide`.
    """
    request = Request(caller, method, path, details)
    verdicts = [
        RuleVerdict(
            policy.name, rule.name, rule.effect, policy.mode, policy.file, rule.line,
            _misses(policy, rule, request),
        )
        for policy in policies.policies
        for rule in policy.rules
    ]  # fmt: skip
    verdicts.sort(key=lambda v: (_distance(v), v.effect is Effect.ALLOW, v.policy, v.rule))
    decision = policies.decide(caller, method, path, details)
    return Explanation(decision, tuple(verdicts))


def _distance(verdict: RuleVerdict) -> int:
    kinds = ("condition", "path", "method", "caller")
    return max((kinds.index(miss.partition(":")[0]) + 1 for miss in verdict.misses), default=0)


def _misses(policy: Policy, rule: Rule, request: Request) -> tuple[str, ...]:
    about_caller = _caller_misses(rule, request.caller)
    ways = [
        about_caller + tuple(_branch_misses(branch, request))
        for branch in branches_of(policy, rule)
    ]
    return min(ways, key=len)


def _caller_misses(rule: Rule, caller: SpiffeId | None) -> tuple[str, ...]:
    if any(_is_meant(identity, caller, rule.effect) for identity in rule.identities):
        return ()
    wanted = " or ".join(_words(identity) for identity in rule.identities)
    return (f"caller: expected {wanted}, got {caller or 'an anonymous caller'}",)


def _is_meant(identity: Identity, caller: SpiffeId | None, effect: Effect) -> bool:
    if identity.is_anonymous:
        return caller is None
    if not identity.patterns:
        return identity.admits(caller, effect)
    if caller is None or not any(pattern.matches(caller) for pattern in identity.patterns):
        return False
    return identity.admits(caller, effect)


def _words(identity: Identity) -> str:
    if identity.is_anonymous:
        return "an anonymous caller"
    named = ", ".join(map(str, identity.patterns)) or "anyone"
    excluded = [
        *sorted(identity.not_trust_domains),
        *(f"namespace {name}" for name in sorted(identity.not_namespaces)),
        *(f"service account {name}" for name in sorted(identity.not_service_accounts)),
        *map(str, identity.not_ids),
    ]
    return f"{named} except {', '.join(excluded)}" if excluded else named


def _branch_misses(branch: Branch, request: Request) -> Iterator[str]:
    if not _is_covered(branch, request.method):
        wanted = ", ".join(sorted(branch.methods or ("every HTTP method",)))
        yield f"method: expected {wanted}, got {request.method}"
    templates = [PathTemplate(segments, is_prefix) for segments, is_prefix in branch.patterns]
    if not any(template.matches(request.path) for template in templates):
        yield f"path: expected {' or '.join(map(str, templates))}, got {request.path}"
        return
    for condition in branch.unmet(request):
        yield f"condition: expected {condition.text}"


def _is_covered(branch: Branch, method: str) -> bool:
    if branch.methods is not None:
        return method in branch.methods
    return branch.is_deny or method not in PSEUDO_METHODS
