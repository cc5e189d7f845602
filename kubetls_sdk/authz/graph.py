# SPDX-License-Identifier: Apache-2.0
"""Who may call what, as a Mermaid flowchart: people would rather look.

Rules:
    1. Every name from a policy is quoted and escaped: a graph may end up in a web page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubetls_sdk.authz.model import Effect, Mode

if TYPE_CHECKING:
    from kubetls_sdk.authz.model import Identity, Operation, Rule
    from kubetls_sdk.authz.policy_set import PolicySet

__all__ = ("mermaid",)

_MAX_LABEL = 120


def mermaid(policies: PolicySet) -> str:
    """Draw callers, rules and operations; deny rules red, shadow policies dashed."""
    lines = ["flowchart LR", "  classDef deny stroke:#b00020,color:#b00020"]
    nodes: dict[str, str] = {}
    for policy in policies.policies:
        arrow = "-.->" if policy.mode is Mode.SHADOW else "-->"
        for rule in policy.rules:
            for caller in map(_caller, rule.identities):
                for target in map(_target, rule.operations):
                    start = _node(nodes, lines, caller, "([{}])")
                    end = _node(nodes, lines, target, "[{}]")
                    label = _quoted(_label(policy.name, rule))
                    lines.append(f"  {start} {arrow}|{label}| {end}")
                    if rule.effect is Effect.DENY:
                        lines.append(f"  class {end} deny")
    return "\n".join(dict.fromkeys(lines)) + "\n"


def _node(nodes: dict[str, str], lines: list[str], text: str, shape: str) -> str:
    key = shape + text
    if key not in nodes:
        nodes[key] = f"n{len(nodes)}"
        lines.append(f"  {nodes[key]}{shape.format(_quoted(text))}")
    return nodes[key]


def _label(policy: str, rule: Rule) -> str:
    verb = "DENY " if rule.effect is Effect.DENY else ""
    conditions = " and ".join(condition.text for condition in rule.conditions)
    return f"{verb}{policy}/{rule.name}" + (f" if {conditions}" if conditions else "")


def _caller(identity: Identity) -> str:
    if identity.is_anonymous:
        return "anonymous"
    named = ", ".join(str(p).removeprefix("spiffe://") for p in identity.patterns) or "everyone"
    return f"{named} with exceptions" if identity.has_exclusions else named


def _target(operation: Operation) -> str:
    methods = ", ".join(sorted(operation.methods or ("any method",)))
    paths = ", ".join(str(t) or "/" for t in operation.templates)
    rest = "; ".join(condition.text for condition in operation.conditions)
    return f"{methods} {paths}" + (f" ({rest})" if rest else "")


def _quoted(text: str) -> str:
    short = text if len(text) <= _MAX_LABEL else f"{text[: _MAX_LABEL - 1]}…"
    safe = "".join(
        char if char.isalnum() or char in " /._-:,'=()…" else f"#{ord(char)};" for char in short
    )
    return f'"{safe}"'
