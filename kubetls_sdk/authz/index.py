# SPDX-License-Identifier: Apache-2.0
"""The compiled form of policies: identity, then method, then a trie of path segments.

Rules:
    1. Built once, never changed after; only the cache of callers grows, to a bound.
    2. Attackers choose methods and paths, so nothing is ever remembered by path, and methods only
       when a rule names them. Callers are verified, so their groups are remembered.
    3. Candidates are judged in the order of their names: the order of files has no meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from kubetls_sdk.authz.branch import Branch, branches_of
from kubetls_sdk.authz.details import ACTION, GRPC, WEBSOCKET
from kubetls_sdk.authz.model import CallerPattern, Effect, Identity, Policy
from kubetls_sdk.authz.trie import Node
from kubetls_sdk.spiffe_id import SpiffeId

__all__ = ("Group", "Index", "Tries")

Tries = tuple[Node[Branch], ...]

PSEUDO_METHODS: Final = frozenset({WEBSOCKET, GRPC, ACTION})
ANY_HTTP: Final = "*"
"""Key of the branches that do not name methods, for HTTP requests."""
ANY_OTHER: Final = "**"
"""Key of the branches that do not name methods, for pseudo-methods: deny rules only."""

_MAX_CALLERS = 8192


class Group:
    """All branches for one identity pattern, by method.

    Attributes:
        identity: Whose negative parts are looked at, once per caller.
        effect: What the negative parts are closed towards.
        tries: Path tries by method.
        has_allow: Whether any branch allows.
    """

    __slots__ = ("effect", "has_allow", "identity", "tries")

    def __init__(self, identity: Identity, effect: Effect) -> None:
        self.identity = identity
        self.effect = effect
        self.tries: dict[str, Node[Branch]] = {}
        self.has_allow = False

    def add(self, branch: Branch) -> None:
        """Put a branch under each of its methods."""
        for method in branch.methods or (ANY_HTTP, ANY_OTHER):
            if branch.methods is None and method is ANY_OTHER and not branch.is_deny:
                continue
            trie = self.tries.get(method)
            if trie is None:
                trie = self.tries[method] = Node()
            for segments, is_prefix in branch.patterns:
                trie.insert(segments, branch, is_prefix=is_prefix)
        self.has_allow = self.has_allow or not branch.is_deny


class Index:
    """Finds the branches that a caller, method and path may match.

    Args:
        policies: Only those that count.
    """

    def __init__(self, policies: Iterable[Policy]) -> None:
        self.is_empty = True
        self._exact: dict[str, dict[str, list[Group]]] = {}
        self._wild: dict[str | None, Node[Group]] = {}
        self._everyone: list[Group] = []
        self._anonymous: list[Group] = []
        self._groups: dict[object, Group] = {}
        for policy in policies:
            for rule in policy.rules:
                self.is_empty = False
                branches = tuple(branches_of(policy, rule))
                for identity in rule.identities:
                    self._add(identity, rule.effect, branches)
        self._groups = {}
        self._callers: dict[str, dict[str, dict[str, Tries]]] = {}
        self._count = 0
        self._nobody: dict[str, Tries] = {}

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
            found += self._exact.get(name, {}).get(caller.path, ())
            segments = caller.path[1:].split("/") if caller.path else []
            for domain in (name, None):
                if domain in self._wild:
                    self._wild[domain].find(segments, found)
        return (group for group in found if group.identity.admits(caller, group.effect))

    def all_groups(self) -> Iterator[Group]:
        """Every group once."""
        yield from self._everyone
        yield from self._anonymous
        for paths in self._exact.values():
            for groups in paths.values():
                yield from groups
        for trie in self._wild.values():
            yield from trie

    def _resolve(self, caller: SpiffeId | None, method: str) -> Tries:
        general = ANY_OTHER if method in PSEUDO_METHODS else ANY_HTTP
        found = tuple(
            trie
            for group in self.groups(caller)
            for key in (method, general)
            if (trie := group.tries.get(key)) is not None
        )
        if method in _REMEMBERED:
            self._remember(caller, method, found)
        return found

    def _remember(self, caller: SpiffeId | None, method: str, found: Tries) -> None:
        if caller is None:
            self._nobody[method] = found
            return
        if self._count >= _MAX_CALLERS:
            self._callers, self._count = {}, 0
        domain = self._callers.setdefault(caller.trust_domain.name, {})
        if caller.path not in domain:
            domain[caller.path] = {}
            self._count += 1
        domain[caller.path][method] = found

    def _add(self, identity: Identity, effect: Effect, branches: tuple[Branch, ...]) -> None:
        if identity.is_anonymous:
            self._fill(("anonymous",), self._anonymous, identity, effect, branches)
        if not identity.patterns and not identity.is_anonymous:
            self._fill(("everyone", identity, effect), self._everyone, identity, effect, branches)
        for pattern in identity.patterns:
            key = (pattern, identity if identity.has_exclusions else None,
                   effect if identity.has_exclusions else None)  # fmt: skip
            if key not in self._groups:
                self._groups[key] = self._place(pattern, Group(identity, effect))
            for branch in branches:
                self._groups[key].add(branch)

    def _fill(
        self,
        key: object,
        place: list[Group],
        identity: Identity,
        effect: Effect,
        branches: tuple[Branch, ...],
    ) -> None:
        if key not in self._groups:
            self._groups[key] = Group(identity, effect)
            place.append(self._groups[key])
        for branch in branches:
            self._groups[key].add(branch)

    def _place(self, pattern: CallerPattern, group: Group) -> Group:
        segments = pattern.segments
        if pattern.trust_domain and not pattern.is_prefix and "*" not in segments:
            path = "".join(f"/{segment}" for segment in segments)
            domain = self._exact.setdefault(pattern.trust_domain, {})
            domain.setdefault(path, []).append(group)
            return group
        trie = self._wild.setdefault(pattern.trust_domain, Node())
        more = (*segments, "*") if pattern.needs_more else segments
        trie.insert(more, group, is_prefix=pattern.is_prefix)
        return group


_REMEMBERED = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", *PSEUDO_METHODS}
)
