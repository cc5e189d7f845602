# SPDX-License-Identifier: Apache-2.0
"""Who may call what, as arrows: people would rather look.

Rules:
    1. An arrow is one caller and one target of one rule; drawing is another module's matter.
    2. Every name from a policy is quoted and escaped: a graph may end up in a web page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubetls_sdk.authz.model import Effect, Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubetls_sdk.authz.model import CallerPattern, Identity, Operation, Rule
    from kubetls_sdk.authz.policy_set import PolicySet

__all__ = ("Arrow", "arrows", "mermaid")

_MAX_LABEL = 120


@dataclass(frozen=True, slots=True)
class Arrow:
    """One caller may, or may not, do one thing.

    Attributes:
        caller: Who.
        target: What.
        rule: `policy/rule`.
        conditions: When.
        is_deny: Whether the rule denies.
        is_shadow: Whether its policy is only tried out.
    """

    caller: str
    target: str
    rule: str
    conditions: tuple[str, ...]
    is_deny: bool
    is_shadow: bool

    @property
    def label(self) -> str:
        """The rule and its conditions in words."""
        conditions = " and ".join(self.conditions)
        verb = "DENY " if self.is_deny else ""
        return f"{verb}{self.rule}" + (f" if {conditions}" if conditions else "")


def arrows(policies: PolicySet) -> Iterator[Arrow]:
    """Take a policy set apart into arrows, in the order of the files."""
    for policy in policies.policies:
        for rule in policy.rules:
            for caller in dict.fromkeys(map(_caller, rule.identities)):
                for operation in rule.operations:
                    yield Arrow(
                        caller,
                        _target(operation),
                        f"{policy.name}/{rule.name}",
                        _conditions(rule, operation),
                        rule.effect is Effect.DENY,
                        policy.mode is Mode.SHADOW,
                    )


def mermaid(policies: PolicySet) -> str:
    """Draw a Mermaid flowchart: deny rules red, shadow policies dashed."""
    lines = ["flowchart LR", "  classDef deny stroke:#b00020,color:#b00020"]
    nodes: dict[str, str] = {}
    for arrow in arrows(policies):
        line = "-.->" if arrow.is_shadow else "-->"
        start = _node(nodes, lines, arrow.caller, "([{}])")
        end = _node(nodes, lines, arrow.target, "[{}]")
        lines.append(f"  {start} {line}|{_quoted(arrow.label)}| {end}")
        if arrow.is_deny:
            lines.append(f"  class {end} deny")
    return "\n".join(dict.fromkeys(lines)) + "\n"


def _node(nodes: dict[str, str], lines: list[str], text: str, shape: str) -> str:
    key = shape + text
    if key not in nodes:
        nodes[key] = f"n{len(nodes)}"
        lines.append(f"  {nodes[key]}{shape.format(_quoted(text))}")
    return nodes[key]


def _conditions(rule: Rule, operation: Operation) -> tuple[str, ...]:
    return tuple(condition.text for condition in operation.conditions + rule.conditions)


def _caller(identity: Identity) -> str:
    if identity.is_anonymous:
        return "anonymous"
    named = ", ".join(map(_callers, identity.patterns)) or "everyone"
    return f"{named} with exceptions" if identity.has_exclusions else named


def _callers(pattern: CallerPattern) -> str:
    if pattern.is_prefix and not pattern.segments:
        return f"everyone in {pattern.trust_domain or 'every trust domain'}"
    return str(pattern).removeprefix("spiffe://")


def _target(operation: Operation) -> str:
    methods = ", ".join(sorted(operation.methods or ("any method",)))
    paths = ", ".join(str(t) or "/" for t in operation.templates)
    return f"{methods} {paths}"


def _quoted(text: str) -> str:
    short = text if len(text) <= _MAX_LABEL else f"{text[: _MAX_LABEL - 1]}…"
    safe = "".join(
        char if char.isalnum() or char in " /._-:,'=()…" else f"#{ord(char)};" for char in short
    )
    return f'"{safe}"'
