# SPDX-License-Identifier: Apache-2.0
"""Conditions: one attribute, one operator, one operand; typed and total.

Rules:
    1. A condition is true, false or undecidable (None). An allow rule needs true; a deny rule
       matches unless false.
    2. Equality and membership over a missing attribute are false; their negations, and orderings,
       are undecidable. An operand of another type is undecidable, never coerced.
    3. An attribute with several values (a repeated header): an allow rule needs all of them, a
       deny rule matches on any.
    4. No loops, no calls, no regular expressions: the cost is bounded by the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from kubetls_sdk.authz.attribute import Attribute, values_of

if TYPE_CHECKING:
    from kubetls_sdk.authz.request import Request

__all__ = ("Condition", "Operator", "holds", "verdict")


class Operator(StrEnum):
    """The fixed set of operators."""

    EQUAL = "=="
    NOT_EQUAL = "!="
    IN = "in"
    NOT_IN = "not in"
    LESS = "<"
    AT_MOST = "<="
    GREATER = ">"
    AT_LEAST = ">="
    STARTS_WITH = "startsWith"
    ENDS_WITH = "endsWith"
    CONTAINS = "contains"
    NOT_CONTAINS = "not contains"
    PRESENT = "present"
    ABSENT = "absent"


_FALSE_WHEN_MISSING = frozenset(
    {
        Operator.EQUAL,
        Operator.IN,
        Operator.STARTS_WITH,
        Operator.ENDS_WITH,
        Operator.CONTAINS,
    }
)


@dataclass(frozen=True, slots=True)
class Condition:
    """`attribute operator operand`, checked for types when it was parsed.

    Attributes:
        attribute: What is looked at.
        operator: How.
        operand: A value, a tuple of values, another attribute, or None (`present`, `absent`).
        text: As it was written, for reasons and explanations.
    """

    attribute: Attribute
    operator: Operator
    operand: Any
    text: str

    @property
    def needs_user(self) -> bool:
        """Whether the condition asks about the end user."""
        operand = self.operand
        return self.attribute.root == "user" or (
            isinstance(operand, Attribute) and operand.root == "user"
        )

    @property
    def variables(self) -> tuple[str, ...]:
        """The path variables that the condition asks about."""
        sides = (self.attribute, self.operand)
        return tuple(
            side.names[0] for side in sides if isinstance(side, Attribute) and side.root == "path"
        )


def holds(condition: Condition, request: Request, *, closed: bool) -> bool:
    """Evaluate one condition.

    Args:
        condition: The condition.
        request: What it is about.
        closed: True for a deny rule: undecidable counts as true, and any value suffices.
    """
    found = values_of(condition.attribute, request)
    if condition.operator is Operator.PRESENT:
        return bool(found)
    if condition.operator is Operator.ABSENT:
        return not found
    operands: tuple[Any, ...] = (condition.operand,)
    if isinstance(condition.operand, Attribute):
        operands = values_of(condition.operand, request)
    if not found or not operands:
        return closed and condition.operator not in _FALSE_WHEN_MISSING
    test = _TESTS[condition.operator]
    results = (test(value, operand) for value in found for operand in operands)
    if closed:
        return any(result is not False for result in results)
    return all(result is True for result in results)


def verdict(operator: Operator, value: Any, operand: Any) -> bool | None:
    """Compare two values that are there: true, false or undecidable."""
    return _TESTS[operator](value, operand)


def _kind(value: object) -> type | None:
    if isinstance(value, bool):
        return bool
    if isinstance(value, int | float):
        return float if value == value else None
    return None if isinstance(value, Mapping | list | tuple) or value is None else type(value)


def _equal(value: Any, operand: Any) -> bool | None:
    kind = _kind(value)
    if kind is None or kind is not _kind(operand):
        return None
    return bool(value == operand)


def _in(value: Any, operand: Any) -> bool | None:
    if not isinstance(operand, tuple | list):
        return None
    return _any([_in_one(value, item) for item in operand])


def _in_one(value: Any, item: Any) -> bool | None:
    contains = getattr(item, "covers", None)
    return contains(value) if contains is not None else _equal(value, item)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool | None]:
    def test(value: Any, operand: Any) -> bool | None:
        """None: one of them cannot be ordered, or they are of two kinds."""
        kind = _kind(value)
        if kind is None or kind is bool or kind is not _kind(operand):
            return None
        return compare(value, operand)

    return test


def _text(compare: Callable[[str, str], bool]) -> Callable[[Any, Any], bool | None]:
    def test(value: Any, operand: Any) -> bool | None:
        """None: one of them is no text."""
        both = isinstance(value, str) and isinstance(operand, str)
        return compare(value, operand) if both else None

    return test


def _contains(value: Any, operand: Any) -> bool | None:
    if isinstance(value, str):
        value = value.split(" ")
    if not isinstance(value, list | tuple):
        return None
    return _any([_equal(item, operand) for item in value])


def _any(verdicts: list[bool | None]) -> bool | None:
    """True when one is; undecidable when all are."""
    if True in verdicts:
        return True
    return False if not verdicts or False in verdicts else None


def _negated(test: Callable[[Any, Any], bool | None]) -> Callable[[Any, Any], bool | None]:
    def negation(value: Any, operand: Any) -> bool | None:
        """What cannot be told stays so."""
        result = test(value, operand)
        return None if result is None else not result

    return negation


_TESTS: Mapping[Operator, Callable[[Any, Any], bool | None]] = {
    Operator.EQUAL: _equal,
    Operator.NOT_EQUAL: _negated(_equal),
    Operator.IN: _in,
    Operator.NOT_IN: _negated(_in),
    Operator.LESS: _ordered(lambda a, b: a < b),
    Operator.AT_MOST: _ordered(lambda a, b: a <= b),
    Operator.GREATER: _ordered(lambda a, b: a > b),
    Operator.AT_LEAST: _ordered(lambda a, b: a >= b),
    Operator.STARTS_WITH: _text(str.startswith),
    Operator.ENDS_WITH: _text(str.endswith),
    Operator.CONTAINS: _contains,
    Operator.NOT_CONTAINS: _negated(_contains),
}
