# SPDX-License-Identifier: Apache-2.0
"""The rules for one identity pattern, and their path tries by method.

Rules:
    1. Few rules are compiled when a caller first needs them, many at once when they are loaded:
       loading stays quick and small, and no request waits for a long compilation.
    2. Compiling twice at the same time gives the same result; the last one stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kubetls_sdk.authz.branch import Branch, branches_of
from kubetls_sdk.authz.model import Effect
from kubetls_sdk.authz.trie import Node

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubetls_sdk.authz.model import Identity, Policy, Rule
    from kubetls_sdk.spiffe_id import SpiffeId

__all__ = ("ANY_HTTP", "ANY_OTHER", "Group", "Seats", "groups_of", "is_many")

ANY_HTTP: Final = "*"
"""Key of the branches that do not name methods, for HTTP requests."""
ANY_OTHER: Final = "**"
"""Key of the branches that do not name methods, for pseudo-methods: deny rules only."""

Seats = list[Any]
"""Policy, rule and identity of each rule for one identity, flat: few objects, loaded quickly."""

_FEW = 32


class Group:
    """All rules for one identity pattern.

    Args:
        identity: Whose negative parts are looked at, once per caller.
        effect: What the negative parts are closed towards.
    """

    __slots__ = ("_tries", "effect", "identity", "rules")

    def __init__(self, identity: Identity, effect: Effect) -> None:
        self.identity = identity
        self.effect = effect
        self.rules: list[tuple[Policy, Rule]] = []
        self._tries: dict[str, Node[Branch]] | None = None

    def add(self, policy: Policy, rule: Rule) -> None:
        """Add a rule; twice in a row counts once."""
        if not self.rules or self.rules[-1][1] is not rule:
            self.rules.append((policy, rule))

    @property
    def has_allow(self) -> bool:
        """Whether any rule allows."""
        return any(rule.effect is Effect.ALLOW for _, rule in self.rules)

    def admits(self, caller: SpiffeId | None) -> bool:
        """Whether the negative parts of the identity leave the caller in."""
        return self.identity.admits(caller, self.effect)

    def tries(self) -> dict[str, Node[Branch]]:
        """Path tries by method."""
        if self._tries is None:
            self._tries = self._compile()
        return self._tries

    def compile_many(self, pause: Callable[[], None]) -> None:
        """Compile now when it would take long."""
        if is_many(len(self.rules)):
            self._tries = self._compile(pause)

    def _compile(self, pause: Callable[[], None] | None = None) -> dict[str, Node[Branch]]:
        tries: dict[str, Node[Branch]] = {}
        for policy, rule in self.rules:
            for branch in branches_of(policy, rule):
                for method in _methods(branch):
                    trie = tries.setdefault(method, Node())
                    for segments, is_prefix in branch.patterns:
                        trie.insert(segments, branch, is_prefix=is_prefix)
            if pause is not None:
                pause()
        return tries


def _methods(branch: Branch) -> frozenset[str] | tuple[str, ...]:
    if branch.methods is not None:
        return branch.methods
    return (ANY_HTTP, ANY_OTHER) if branch.is_deny else (ANY_HTTP,)


def is_many(count: int) -> bool:
    """Whether compiling so many rules is too long for a request to wait."""
    return count > _FEW


def groups_of(seats: Seats) -> tuple[Group, ...]:
    """Make the groups for one identity."""
    groups: dict[object, Group] = {}
    for policy, rule, identity in zip(seats[::3], seats[1::3], seats[2::3], strict=True):
        key = (identity, rule.effect) if identity.has_exclusions else None
        if key not in groups:
            groups[key] = Group(identity, rule.effect)
        groups[key].add(policy, rule)
    return tuple(groups.values())
