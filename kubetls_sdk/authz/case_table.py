# SPDX-License-Identifier: Apache-2.0
"""Table tests for policies: requests with the decision that is expected, and rule coverage.

    version: 1
    cases:
      - name: web reads an order
        request: {from: "spiffe://example.org/ns/shop/sa/web", method: GET, path: /orders/42}
        expect: allow          # or deny
        rule: web-reads        # optional: the rule that decides

Rules:
    1. A rule is covered when it matches in some case; what is not covered is reported.
    2. Claims are JSON values: plain `true`, `false` and numbers are what they look like, everything
       else is text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubetls_sdk.authz.explanation import explain
from kubetls_sdk.authz.fields import Fields
from kubetls_sdk.authz.recorded import RecordedRequest
from kubetls_sdk.authz.yaml_node import Mapping, Node, Scalar, Sequence
from kubetls_sdk.exceptions import ConfigurationError, PolicyError, SpiffeIdError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubetls_sdk.authz.decision import Decision
    from kubetls_sdk.authz.policy_set import PolicySet

__all__ = ("Case", "CaseResult", "TableResult", "parse_cases", "run_cases")

_FIELDS = frozenset({"name", "request", "expect", "rule"})
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table."""

    name: str
    request: RecordedRequest
    is_allowed: bool
    rule: str | None
    line: int


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What became of a case.

    Attributes:
        case: The case.
        decision: What the policies say.
        failure: Expected and got, None when they agree.
    """

    case: Case
    decision: Decision
    failure: str | None


@dataclass(frozen=True, slots=True)
class TableResult:
    """What became of a table.

    Attributes:
        results: Of each case.
        uncovered: `policy/rule` of the rules that matched in no case.
        rule_count: Of all rules.
    """

    results: tuple[CaseResult, ...]
    uncovered: tuple[str, ...]
    rule_count: int

    @property
    def is_passed(self) -> bool:
        """Whether every case got what it expects."""
        return all(result.failure is None for result in self.results)


def parse_cases(text: str, *, file: str) -> tuple[Case, ...]:
    """Parse a case table.

    Raises:
        PolicyError: Not a case table; `.file` and `.line` say where.
    """
    root = Fields.of_document(text, file=file, known=frozenset({"version", "cases"}))
    cases = tuple(_case(node, file) for node in root.nodes("cases"))
    if not cases:
        raise root.error("expected at least one case")
    return cases


def run_cases(policies: PolicySet, cases: Iterable[Case]) -> TableResult:
    """Decide every case and see which rules matched."""
    rules = {f"{p.name}/{rule.name}" for p in policies.policies for rule in p.rules}
    uncovered = set(rules)
    results = []
    for case in cases:
        request = case.request
        explained = explain(policies, request.caller, request.method, request.path, request.details)
        uncovered -= {f"{v.policy}/{v.rule}" for v in explained.verdicts if v.is_match}
        results.append(CaseResult(case, explained.decision, _failure(case, explained.decision)))
    return TableResult(tuple(results), tuple(sorted(uncovered)), len(rules))


def _failure(case: Case, decision: Decision) -> str | None:
    if decision.allowed is not case.is_allowed:
        wanted = "allow" if case.is_allowed else "deny"
        return f"expected {wanted}, got {decision.kind}: {decision.reason}"
    if case.rule is not None and case.rule not in (
        decision.rule, f"{decision.policy}/{decision.rule}"
    ):  # fmt: skip
        return f"expected rule {case.rule!r} to decide, got {decision.rule!r}"
    return None


def _case(node: Node, file: str) -> Case:
    fields = Fields(node, file=file, known=_FIELDS)
    expected = fields.text("expect")
    if expected not in ("allow", "deny"):
        raise fields.error(f"expected allow or deny, got {expected!r}", fields.line_of("expect"))
    rule = fields.text("rule") if fields.has("rule") else None
    name = fields.text("name")
    request = _request(fields)
    return Case(name, request, expected == "allow", rule, fields.line)


def _request(fields: Fields) -> RecordedRequest:
    line = fields.line_of("request")
    nodes = fields.nodes("request")
    if len(nodes) != 1 or not isinstance(nodes[0], Mapping):
        raise fields.error("expected request as a mapping", line)
    try:
        request = RecordedRequest.parse(_value(nodes[0]))
    except (ConfigurationError, SpiffeIdError) as err:
        raise PolicyError(str(err), file=fields.file, line=line) from None
    reason = request.refusal()
    if reason is not None:
        raise fields.error(f"this request gets 400 before any policy: {reason}", line)
    return request


def _value(node: Node) -> Any:
    if isinstance(node, Mapping):
        return {key: _value(value) for key, value in node.entries.items()}
    if isinstance(node, Sequence):
        return [_value(item) for item in node.items]
    return _scalar(node)


def _scalar(node: Scalar) -> Any:
    if not node.is_plain:
        return node.value
    if node.value in ("true", "false"):
        return node.value == "true"
    if node.value in ("null", "~", ""):
        return None
    if _NUMBER.fullmatch(node.value):
        return float(node.value) if "." in node.value else int(node.value)
    return node.value
