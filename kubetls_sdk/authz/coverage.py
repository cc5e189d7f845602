# SPDX-License-Identifier: Apache-2.0
"""Which rules leave nothing for another rule: the base of "unreachable" and "shadowed".

Rules:
    1. Only unconditional rules cover anything; what they cover may have any condition.
    2. Sound, not complete: a rule is called covered only when each of its callers, methods and
       paths is covered by one rule each. Several halves that make a whole are not put together.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from kubetls_sdk.authz.branch import branches_of
from kubetls_sdk.authz.details import PSEUDO_METHODS
from kubetls_sdk.authz.group import ANY_HTTP, ANY_OTHER
from kubetls_sdk.authz.model import Effect, Mode
from kubetls_sdk.authz.trie import Node
from kubetls_sdk.exceptions import PolicyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kubetls_sdk.authz.branch import Branch
    from kubetls_sdk.authz.model import CallerPattern, Identity, Policy, Rule

__all__ = ("Coverage", "check_reachable")

_Place = tuple[tuple[str, ...], bool, "Branch"]


class _Reach:
    """The unconditional branches for one identity pattern."""

    def __init__(self, pattern: CallerPattern | None) -> None:
        self.pattern = pattern
        self.tries: dict[str, Node[_Place]] = {}

    def add(self, branch: Branch) -> None:
        """Take what a branch covers."""
        methods = branch.methods or (ANY_HTTP, ANY_OTHER)
        for method in methods:
            trie = self.tries.setdefault(method, Node())
            for segments, is_prefix in branch.patterns:
                trie.insert(segments, (segments, is_prefix, branch), is_prefix=is_prefix)

    def find(self, method: str, segments: tuple[str, ...], *, is_prefix: bool) -> Iterator[Branch]:
        """The branches that cover a template and a method (or `ANY_HTTP`)."""
        general = ANY_OTHER if method in PSEUDO_METHODS else ANY_HTTP
        found: list[_Place] = []
        for key in {method, general}:
            if key in self.tries:
                self.tries[key].find(segments, found)
        for _, covers_more, branch in found:
            if covers_more or not is_prefix:
                yield branch


class Coverage:
    """The unconditional rules of one effect, found by what they cover.

    Args:
        rules: With their policies; those with conditions are passed over.
    """

    def __init__(self, rules: Iterable[tuple[Policy, Rule]]) -> None:
        self._reaches: dict[tuple[CallerPattern | None, bool], _Reach] = {}
        self._wild: dict[str | None, Node[_Reach]] = {}
        for policy, rule in rules:
            branches = [branch for branch in branches_of(policy, rule) if not branch.conditions]
            for identity in rule.identities if branches else ():
                self._add(identity, branches)

    def __bool__(self) -> bool:
        return bool(self._reaches)

    def covering(self, policy: Policy, rule: Rule) -> frozenset[tuple[str, str]] | None:
        """Names (policy, rule) of the rules that together leave nothing of a rule; None if some."""
        names: set[tuple[str, str]] = set()
        own = (policy.name, rule.name)
        for branch in branches_of(policy, rule):
            for identity in rule.identities:
                for reaches in self._over(identity):
                    found = _all_covered(branch, reaches, own)
                    if found is None:
                        return None
                    names |= found
        return frozenset(names)

    def _add(self, identity: Identity, branches: list[Branch]) -> None:
        if identity.has_exclusions:
            return
        for pattern in identity.patterns or (None,):
            key = (pattern, identity.is_anonymous)
            if key not in self._reaches:
                self._reaches[key] = reach = _Reach(pattern)
                if pattern is not None:
                    trie = self._wild.setdefault(pattern.trust_domain, Node())
                    trie.insert(_segments(pattern), reach, is_prefix=pattern.is_prefix)
            for branch in branches:
                self._reaches[key].add(branch)

    def _over(self, identity: Identity) -> Iterator[list[_Reach]]:
        """For each pattern of an identity, the reaches that cover it."""
        everyone = [reach for key, reach in self._reaches.items() if key == (None, False)]
        if identity.is_anonymous:
            yield everyone + [r for key, r in self._reaches.items() if key == (None, True)]
        elif not identity.patterns:
            yield everyone
        for pattern in identity.patterns:
            found: list[_Reach] = []
            for domain in {pattern.trust_domain, None}:
                if domain in self._wild:
                    self._wild[domain].find(_segments(pattern), found)
            yield everyone + [r for r in found if _is_wide_enough(r.pattern, pattern)]


def check_reachable(policies: Iterable[Policy], pause: Callable[[], None] = lambda: None) -> None:
    """Refuse allow rules that enforced deny rules leave nothing of.

    Args:
        policies: All of a set.
        pause: Called after each rule.

    Raises:
        PolicyError: Names the allow rule and what covers it.
    """
    policies = tuple(policies)
    enforced = [policy for policy in policies if policy.mode is Mode.ENFORCE]
    denies = Coverage(_of_effect(enforced, Effect.DENY))
    if not denies:
        return
    for policy, rule in _of_effect(policies, Effect.ALLOW):
        pause()
        names = denies.covering(policy, rule)
        if names is not None:
            listed = ", ".join(f"{p}/{r}" for p, r in sorted(names))
            raise PolicyError(
                f"unreachable: the deny rule {listed} always wins",
                file=policy.file or None,
                line=rule.line or None,
                rule=rule.name,
            )


def _of_effect(policies: Iterable[Policy], effect: Effect) -> Iterator[tuple[Policy, Rule]]:
    return ((policy, rule) for policy in policies for rule in policy.rules if rule.effect is effect)


def _segments(pattern: CallerPattern) -> tuple[str, ...]:
    return (*pattern.segments, "*") if pattern.needs_more else pattern.segments


def _is_wide_enough(wide: CallerPattern | None, narrow: CallerPattern) -> bool:
    return wide is None or wide.is_prefix or not narrow.is_prefix


def _all_covered(
    branch: Branch, reaches: list[_Reach], own: tuple[str, str]
) -> set[tuple[str, str]] | None:
    names: set[tuple[str, str]] = set()
    for method in branch.methods or ((ANY_HTTP, ANY_OTHER) if branch.is_deny else (ANY_HTTP,)):
        for segments, is_prefix in branch.patterns:
            places = (reach.find(method, segments, is_prefix=is_prefix) for reach in reaches)
            over = (
                other.order[1:]
                for other in chain.from_iterable(places)
                if other.order[0] <= branch.order[0]  # One that needs a user leaves those without.
            )
            name = next((name for name in over if name != own), None)
            if name is None:
                return None
            names.add(name)
    return names
