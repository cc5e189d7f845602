# SPDX-License-Identifier: Apache-2.0
"""The compiled form of policies: identity, then method, then a trie of path segments.

Rules:
    1. Built once, never changed after; only the cache of callers grows, to a bound.
    2. Attackers choose methods and paths, so nothing is ever remembered by path, and methods only
       when they are usual. Callers are verified, so their groups are remembered.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from kubetls_sdk.authz.details import PSEUDO_METHODS
from kubetls_sdk.authz.group import (
    ANY_HTTP,
    ANY_OTHER,
    Group,
    groups_of,
    is_many,
)
from kubetls_sdk.authz.model import Effect
from kubetls_sdk.authz.short_way import short_way
from kubetls_sdk.authz.trie import Node
from kubetls_sdk.exceptions import PolicyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kubetls_sdk.authz.branch import Branch
    from kubetls_sdk.authz.group import Seats
    from kubetls_sdk.authz.model import CallerPattern, Identity, Policy, Rule
    from kubetls_sdk.authz.short_way import Table
    from kubetls_sdk.spiffe_id import SpiffeId

__all__ = ("Index", "Tries")

Tries = tuple[Node["Branch"], ...]

_MAX_CALLERS = 8192
_REMEMBERED = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", *PSEUDO_METHODS}
)


class Index:
    """Finds the branches that a caller, method and path may match.

    Args:
        policies: Only those that count.
        pause: Called again and again, so that a background load lets other threads run.

    Attributes:
        tables: Short ways by name of the trust domain, path of the identity and method, as far as
            seen; see `short_way`.
    """

    def __init__(self, policies: Iterable[Policy], pause: Callable[[], None]) -> None:
        self._exact: dict[str, dict[str, Seats | tuple[Group, ...]]] = {}
        self._wild: dict[str | None, Node[Group]] = {}
        self._everyone: list[Group] = []
        self._anonymous: list[Group] = []
        self.tables: dict[str, dict[str, dict[str, Table]]] = {}
        self._callers: dict[str, dict[str, dict[str, Tries]]] = {}
        self._nobody: dict[str, Tries] = {}
        self._count = 0
        self._fill(policies, pause)
        self._compile_many(pause)
        self.is_empty = not (self._everyone or self._anonymous or self._exact or self._wild)

    def tries(self, caller: SpiffeId | None, method: str) -> Tries:
        """The path tries that count for a caller and a method."""
        try:
            if caller is None:
                return self._nobody[method]
            return self._callers[caller.trust_domain.name][caller.path][method]
        except KeyError:
            return self._resolve(caller, method)

    def groups(self, caller: SpiffeId | None) -> Iterator[Group]:
        """The groups whose identity fits a caller."""
        found: list[Group] = list(self._everyone)
        if caller is None:
            found += self._anonymous
        else:
            name = caller.trust_domain.name
            found += self._exact_groups(name, caller.path)
            segments = caller.path[1:].split("/") if caller.path else []
            for domain in (name, None):
                if domain in self._wild:
                    self._wild[domain].find(segments, found)
        return (group for group in found if group.admits(caller))

    def _exact_groups(self, domain: str, path: str) -> tuple[Group, ...]:
        """The groups for one identity alone, made when it is first asked about."""
        paths = self._exact.get(domain, {})
        found = paths.get(path, ())
        if isinstance(found, list):
            found = paths[path] = groups_of(found)
        return found

    def _resolve(self, caller: SpiffeId | None, method: str) -> Tries:
        general = ANY_OTHER if method in PSEUDO_METHODS else ANY_HTTP
        found = tuple(
            trie
            for group in self.groups(caller)
            for key in (method, general)
            if (trie := group.tries().get(key)) is not None
        )
        if method in _REMEMBERED:
            self._remember(caller, method, found)
        return found

    def _remember(self, caller: SpiffeId | None, method: str, found: Tries) -> None:
        if caller is None:
            self._nobody[method] = found
            return
        if self._count >= _MAX_CALLERS:
            self._callers.clear()
            self.tables.clear()
            self._count = 0
        domain = self._callers.setdefault(caller.trust_domain.name, {})
        tables = self.tables.setdefault(caller.trust_domain.name, {})
        self._count += caller.path not in domain
        domain.setdefault(caller.path, {})[method] = found
        if len(found) == 1:
            tables.setdefault(caller.path, {})[method] = short_way(found[0])

    def _fill(self, policies: Iterable[Policy], pause: Callable[[], None]) -> None:
        groups: dict[object, Group] = {}
        for policy in policies:
            for rule in policy.rules:
                for identity in rule.identities:
                    for pattern in _patterns(identity, policy, rule):
                        if pattern is not None and pattern.is_exact:
                            self._seats(pattern).extend((policy, rule, identity))
                        else:
                            self._group(groups, pattern, identity, rule.effect).add(policy, rule)
                pause()

    def _seats(self, pattern: CallerPattern) -> Seats:
        domain = self._exact.setdefault(pattern.trust_domain or "", {})
        seats = domain.setdefault(pattern.path, [])
        return seats if isinstance(seats, list) else []

    def _group(
        self,
        groups: dict[object, Group],
        pattern: CallerPattern | None,
        identity: Identity,
        effect: Effect,
    ) -> Group:
        closed = (identity, effect) if identity.has_exclusions else None
        key = (pattern, identity.is_anonymous, closed)
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group(identity, effect)
            if pattern is not None:
                trie = self._wild.setdefault(pattern.trust_domain, Node())
                more = (*pattern.segments, "*") if pattern.needs_more else pattern.segments
                trie.insert(more, group, is_prefix=pattern.is_prefix)
            else:
                (self._anonymous if identity.is_anonymous else self._everyone).append(group)
        return group

    def _compile_many(self, pause: Callable[[], None]) -> None:
        for group in chain(
            self._everyone, self._anonymous, chain.from_iterable(self._wild.values())
        ):
            group.compile_many(pause)
            pause()
        for domain, paths in self._exact.items():
            many = [path for path, seats in paths.items() if is_many(len(seats) // 3)]
            for path in many:
                for group in self._exact_groups(domain, path):
                    group.compile_many(pause)


def _patterns(identity: Identity, policy: Policy, rule: Rule) -> tuple[CallerPattern | None, ...]:
    if identity.patterns:
        return identity.patterns
    if rule.effect is Effect.ALLOW and not identity.is_anonymous:
        raise PolicyError(
            "expected an allow rule to say whom it allows", file=policy.file or None, rule=rule.name
        )
    return (None,)
