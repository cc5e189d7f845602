# SPDX-License-Identifier: Apache-2.0
"""A policy as frozen values, between the text and the index.

Rules:
    1. Deny overrides allow, whatever the order; nothing matching is a deny.
    2. A missing attribute never satisfies a positive condition; a deny rule whose condition cannot
       be decided matches.
    3. Every value here is checked: names, templates, patterns and conditions are parsed types.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubetls_sdk.authz.condition import Condition
    from kubetls_sdk.authz.template import PathTemplate
    from kubetls_sdk.spiffe_id import SpiffeId

__all__ = ("CallerPattern", "Effect", "Identity", "Mode", "Operation", "Policy", "Rule")


class Effect(StrEnum):
    """What a matching rule does."""

    ALLOW = "allow"
    DENY = "deny"


class Mode(StrEnum):
    """Whether a policy decides, or only reports what it would decide."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class CallerPattern:
    """Identities of one trust domain or of all, segment by segment.

    Attributes:
        trust_domain: The exact name, or None for every trust domain.
        segments: Path segments; `*` stands for any one.
        is_prefix: Whether more segments may follow.
        needs_more: With `is_prefix`: whether at least one more has to follow.
    """

    trust_domain: str | None
    segments: tuple[str, ...] = ()
    is_prefix: bool = False
    needs_more: bool = False

    @property
    def is_exact(self) -> bool:
        """Whether only one identity fits."""
        return self.trust_domain is not None and not self.is_prefix and "*" not in self.segments

    @property
    def path(self) -> str:
        """The path of the SPIFFE ID that fits, where only one does."""
        return "/".join(("", *self.segments))

    def matches(self, caller: SpiffeId) -> bool:
        """Tell whether an identity fits."""
        if self.trust_domain not in (None, caller.trust_domain.name):
            return False
        found = caller.path[1:].split("/") if caller.path else []
        extra = len(found) - len(self.segments)
        if extra < 0 or (extra and not self.is_prefix) or (self.needs_more and not extra):
            return False
        return all(want in ("*", got) for want, got in zip(self.segments, found, strict=False))

    def __str__(self) -> str:
        rest = (("**",) if self.needs_more else ("[**]",)) if self.is_prefix else ()
        return "/".join((f"spiffe://{self.trust_domain or '*'}", *self.segments, *rest))


@dataclass(frozen=True, slots=True)
class Identity:
    """One alternative of `from`: whom a rule is about.

    Attributes:
        patterns: The positive part, OR-ed; empty for everyone (deny rules) or nobody.
        is_anonymous: Whether the rule names callers without a certificate.
        domains: Trust domains that the negative parts speak of, None for every one.
        not_trust_domains: Excluded trust domains.
        not_namespaces: Excluded Kubernetes namespaces.
        not_service_accounts: Excluded service accounts.
        not_ids: Excluded identities.
    """

    patterns: tuple[CallerPattern, ...] = ()
    is_anonymous: bool = False
    domains: frozenset[str] | None = None
    not_trust_domains: frozenset[str] = frozenset()
    not_namespaces: frozenset[str] = frozenset()
    not_service_accounts: frozenset[str] = frozenset()
    not_ids: tuple[CallerPattern, ...] = ()

    @property
    def has_exclusions(self) -> bool:
        """Whether a negative part has to be looked at."""
        return bool(
            self.not_trust_domains
            or self.not_namespaces
            or self.not_service_accounts
            or self.not_ids
        )

    def admits(self, caller: SpiffeId | None, effect: Effect) -> bool:
        """Tell whether the negative parts leave this caller in, closed towards the effect.

        An allow rule excludes whoever might be meant; a deny rule spares only whoever surely is.
        """
        if not self.has_exclusions:
            return True
        if caller is None:
            return effect is Effect.DENY
        if effect is Effect.DENY:
            return not self._is_excluded(caller) or not self._is_spoken_of(caller)
        return not self._is_excluded(caller) and not self._is_unknown(caller)

    def _is_excluded(self, caller: SpiffeId) -> bool:
        return (
            caller.trust_domain.name in self.not_trust_domains
            or caller.namespace in self.not_namespaces
            or caller.service_account in self.not_service_accounts
            or any(pattern.matches(caller) for pattern in self.not_ids)
        )

    def _is_unknown(self, caller: SpiffeId) -> bool:
        return caller.namespace is None and bool(self.not_namespaces or self.not_service_accounts)

    def _is_spoken_of(self, caller: SpiffeId) -> bool:
        name = caller.trust_domain.name
        return (
            self.domains is None
            or name in self.domains
            or name in self.not_trust_domains
            or any(pattern.matches(caller) for pattern in self.not_ids)
        )


EVERYONE = Identity()
"""Every caller, the anonymous one included: what a deny rule without `from` is about."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One alternative of `to`: what a rule is about.

    Attributes:
        methods: HTTP methods and the pseudo-methods of `details`; None for every HTTP method (and,
            in a deny rule, for everything).
        templates: Path templates, OR-ed.
        conditions: Host, port and the negative parts, AND-ed.
    """

    methods: frozenset[str] | None
    templates: tuple[PathTemplate, ...]
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: (some identity) and (some operation) and (all conditions).

    Attributes:
        name: Unique in its policy.
        effect: Allow or deny.
        identities: Alternatives of `from`.
        operations: Alternatives of `to`.
        conditions: All of `when`.
        line: Where the rule starts, 1-based; 0 when it was made in Python.
        is_user_optional: Of an allow rule: whether it allows requests without an end user where the
            server authenticates users.
    """

    name: str
    effect: Effect
    identities: tuple[Identity, ...]
    operations: tuple[Operation, ...]
    conditions: tuple[Condition, ...] = ()
    line: int = 0
    is_user_optional: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules under one name and one mode.

    Attributes:
        name: Unique in its set.
        rules: In the order of the file, which has no meaning.
        mode: Enforce or shadow.
        file: Where it was written.
        line: Where it starts, 1-based.
    """

    name: str
    rules: tuple[Rule, ...]
    mode: Mode = Mode.ENFORCE
    file: str = ""
    line: int = 0
