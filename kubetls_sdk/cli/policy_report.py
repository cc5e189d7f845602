# SPDX-License-Identifier: Apache-2.0
"""What `kubetls policy` prints: lines for people, fields for `--json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kubetls_sdk.authz.case_table import TableResult
    from kubetls_sdk.authz.decision import Decision
    from kubetls_sdk.authz.explanation import Explanation
    from kubetls_sdk.authz.lint import Finding

__all__ = (
    "case_lines",
    "decision_fields",
    "explanation_fields",
    "explanation_lines",
    "finding_lines",
    "table_fields",
)

_MAX_MISSES = 10


def decision_fields(decision: Decision) -> dict[str, Any]:
    """A decision as JSON fields."""
    return {
        "allowed": decision.allowed,
        "kind": decision.kind.value,
        "reason": decision.reason,
        "policy": decision.policy,
        "rule": decision.rule,
        "needed": list(decision.needed),
        "shadow": None if decision.shadow is None else decision_fields(decision.shadow),
    }


def explanation_fields(explained: Explanation) -> dict[str, Any]:
    """An explanation as JSON fields."""
    return {
        "decision": decision_fields(explained.decision),
        "rules": [
            {
                "policy": verdict.policy,
                "rule": verdict.rule,
                "effect": verdict.effect.value,
                "mode": verdict.mode.value,
                "file": verdict.file,
                "line": verdict.line,
                "matches": verdict.is_match,
                "misses": list(verdict.misses),
            }
            for verdict in explained.verdicts
        ],
    }


def explanation_lines(explained: Explanation) -> Iterator[str]:
    """The decision, the rules that match, and the closest of those that do not."""
    decision = explained.decision
    yield f"{'ALLOWED' if decision.allowed else 'DENIED'} ({decision.kind}): {decision.reason}"
    for needed in decision.needed:
        yield f"  needed: {needed}"
    if decision.shadow is not None:
        words = "allowed" if decision.shadow.allowed else "denied"
        yield f"  with shadow policies: {words}, {decision.shadow.reason}"
    missed = 0
    for verdict in explained.verdicts:
        missed += not verdict.is_match
        if missed > _MAX_MISSES:
            break
        sign = "matches" if verdict.is_match else "misses "
        mode = " (shadow)" if verdict.mode.value == "shadow" else ""
        where = f"{verdict.file}:{verdict.line}"
        yield f"{sign} {verdict.effect} {verdict.policy}/{verdict.rule}{mode}  {where}"
        for miss in verdict.misses:
            yield f"    {miss}"
    hidden = sum(not verdict.is_match for verdict in explained.verdicts) - _MAX_MISSES
    if hidden > 0:
        yield f"and {hidden} more rules that miss (see --json)"


def finding_lines(findings: Iterable[Finding]) -> Iterator[str]:
    """One line for each warning."""
    for each in findings:
        where = f"{each.file}:{each.line}"
        yield f"{where}: {each.code}: {each.policy}/{each.rule}: {each.message}"


def table_fields(result: TableResult) -> dict[str, Any]:
    """A table's result as JSON fields."""
    return {
        "passed": result.is_passed,
        "cases": [
            {
                "name": each.case.name,
                "line": each.case.line,
                "passed": each.failure is None,
                "failure": each.failure,
                "decision": decision_fields(each.decision),
            }
            for each in result.results
        ],
        "rules": result.rule_count,
        "uncovered": list(result.uncovered),
    }


def case_lines(result: TableResult) -> Iterator[str]:
    """One line for each case, then coverage."""
    for each in result.results:
        if each.failure is None:
            yield f"ok      {each.case.name}"
        else:
            yield f"FAILED  {each.case.name} (line {each.case.line}): {each.failure}"
    for name in result.uncovered:
        yield f"no case matches rule {name}"
    failed = sum(each.failure is not None for each in result.results)
    covered = result.rule_count - len(result.uncovered)
    yield (
        f"{len(result.results)} cases, {failed} failed; "
        f"{covered} of {result.rule_count} rules covered"
    )
