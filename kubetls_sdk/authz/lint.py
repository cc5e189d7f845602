# SPDX-License-Identifier: Apache-2.0
"""What is valid in a policy and still probably not meant.

Rules:
    1. A finding is a warning: what is certainly wrong is a `PolicyError` when the policy loads.
    2. Each finding names file, line, policy and rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from itertools import product
from typing import TYPE_CHECKING

from kubetls_sdk.authz.branch import covered
from kubetls_sdk.authz.coverage import Coverage
from kubetls_sdk.authz.model import Effect, Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubetls_sdk.authz.model import CallerPattern, Identity, Operation, Policy, Rule
    from kubetls_sdk.authz.policy_set import PolicySet

__all__ = ("Finding", "lint")

_MAX_PAIRS = 2_000_000
_HTTP = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
_REGISTERED = frozenset({
    "ACL", "BIND", "CHECKIN", "CHECKOUT", "COPY", "LABEL", "LINK", "LOCK", "MERGE", "MOVE",
    "PROPFIND", "PROPPATCH", "QUERY", "REBIND", "REPORT", "SEARCH", "UNBIND", "UNLINK", "UNLOCK",
    "UPDATE",
})  # fmt: skip
_Rules = list[tuple["Policy", "Rule"]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One warning.

    Attributes:
        code: `too-wide`, `shadowed`, `ineffective-deny` or `unknown-method`.
        message: One clause.
        file: Where.
        line: Where, 1-based.
        policy: Name of the policy.
        rule: Name of the rule.
    """

    code: str
    message: str
    file: str
    line: int
    policy: str
    rule: str


def lint(policies: PolicySet) -> tuple[Finding, ...]:
    """Find what is probably not meant, in the order of the files."""
    allows = _of(policies, Effect.ALLOW)
    denies = _of(policies, Effect.DENY)
    found = [
        *_too_wide(allows),
        *_shadowed(allows),
        *_shadowed(denies),
        *_ineffective(denies, allows),
        *_unknown_methods(denies + allows),
    ]
    return tuple(sorted(found, key=lambda each: (each.file, each.line, each.code)))


def _of(policies: PolicySet, effect: Effect) -> _Rules:
    return [(p, rule) for p in policies.policies for rule in p.rules if rule.effect is effect]


def _finding(code: str, message: str, policy: Policy, rule: Rule) -> Finding:
    return Finding(code, message, policy.file, rule.line, policy.name, rule.name)


def _too_wide(allows: _Rules) -> Iterator[Finding]:
    for policy, rule in allows:
        everything = any(_is_everything(operation) for operation in rule.operations)
        for identity in rule.identities:
            if identity.is_anonymous and everything:
                yield _finding("too-wide", "anonymous callers may do everything", policy, rule)
            for pattern in identity.patterns:
                if pattern.trust_domain is None:
                    text = "callers of every trust domain, partners included, are allowed"
                    yield _finding("too-wide", text, policy, rule)
                elif not pattern.segments and everything and not rule.conditions:
                    text = f"everyone in {pattern.trust_domain} may do everything"
                    yield _finding("too-wide", text, policy, rule)


def _is_everything(operation: Operation) -> bool:
    return (
        operation.methods is None
        and not operation.conditions
        and any(t.is_prefix and len(t.segments) <= 1 for t in operation.templates)
    )


def _shadowed(rules: _Rules) -> Iterator[Finding]:
    coverage = Coverage((policy, rule) for policy, rule in rules if policy.mode is Mode.ENFORCE)
    for policy, rule in rules:
        names = coverage.covering(policy, rule) if coverage else None
        if names is not None:
            listed = ", ".join(f"{p}/{r}" for p, r in sorted(names))
            yield _finding("shadowed", f"adds nothing to {listed}", policy, rule)


def _ineffective(denies: _Rules, allows: _Rules) -> Iterator[Finding]:
    if len(denies) * len(allows) > _MAX_PAIRS:
        return
    for policy, rule in denies:
        if not any(_overlap(rule, allow) for _, allow in allows):
            text = "denies nothing that any allow rule allows"
            yield _finding("ineffective-deny", text, policy, rule)


def _unknown_methods(rules: _Rules) -> Iterator[Finding]:
    """Names that look like one of HTTP's; what is registered, or like none, is meant."""
    for policy, rule in rules:
        named = {name for operation in rule.operations for name in operation.methods or ()}
        for name in sorted(named - _HTTP - _REGISTERED):
            for meant in get_close_matches(name, sorted(_HTTP), 1):
                text = f"HTTP has no method {name!r}; is {meant!r} meant?"
                yield _finding("unknown-method", text, policy, rule)


def _overlap(deny: Rule, allow: Rule) -> bool:
    return any(
        _identities_overlap(*identities)
        for identities in product(deny.identities, allow.identities)
    ) and any(
        _operations_overlap(*operations)
        for operations in product(deny.operations, allow.operations)
    )


def _identities_overlap(deny: Identity, allow: Identity) -> bool:
    if deny.is_anonymous or allow.is_anonymous:
        return deny.is_anonymous is allow.is_anonymous or not (deny.patterns or deny.is_anonymous)
    if not deny.patterns:
        return True
    return any(_patterns_overlap(*pair) for pair in product(deny.patterns, allow.patterns))


def _patterns_overlap(one: CallerPattern, other: CallerPattern) -> bool:
    domains = {one.trust_domain, other.trust_domain}
    if None not in domains and len(domains) > 1:
        return False
    return _segments_overlap(one.segments, other.segments, one.is_prefix, other.is_prefix)


def _operations_overlap(deny: Operation, allow: Operation) -> bool:
    if (
        deny.methods and allow.methods
        and not covered(deny.methods, is_deny=True) & covered(allow.methods, is_deny=False)
    ):  # fmt: skip
        return False
    return any(
        _segments_overlap(one.segments, other.segments, one.is_prefix, other.is_prefix)
        or _segments_overlap(
            one.with_slash().segments, other.segments, one.is_prefix, other.is_prefix
        )
        for one, other in product(deny.templates, allow.templates)
    )


def _segments_overlap(
    one: tuple[str, ...], other: tuple[str, ...], one_open: bool, other_open: bool
) -> bool:
    if len(one) > len(other) and not other_open:
        return False
    if len(other) > len(one) and not one_open:
        return False
    return all(a == b or "*" in (a, b) for a, b in zip(one, other, strict=False))
