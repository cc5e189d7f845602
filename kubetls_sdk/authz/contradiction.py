# SPDX-License-Identifier: Apache-2.0
"""Conditions that cannot hold together, found when the rule is loaded.

Rules:
    1. Only certainties: conditions that compare two attributes are left alone.
    2. Values that are named are tried against every other condition on the same attribute.
    3. A deny rule matches on any value of a repeated header, so its conditions on one may all hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubetls_sdk.authz.attribute import Attribute, Network
from kubetls_sdk.authz.condition import Condition, Operator, verdict
from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("check_satisfiable",)

_LOWER = (Operator.GREATER, Operator.AT_LEAST)
_UPPER = (Operator.LESS, Operator.AT_MOST)
_NAMED = (Operator.EQUAL, Operator.IN)


def check_satisfiable(conditions: Iterable[Condition], *, closed: bool = False) -> None:
    """Refuse conditions that contradict each other.

    Args:
        conditions: Of one rule.
        closed: True for a deny rule.

    Raises:
        ConfigurationError: Quotes two conditions of one attribute that cannot both hold.
    """
    grouped: dict[Attribute, list[Condition]] = {}
    for condition in conditions:
        is_repeatable = closed and condition.attribute.root == "header"
        if not isinstance(condition.operand, Attribute) and not is_repeatable:
            grouped.setdefault(condition.attribute, []).append(condition)
    for group in grouped.values():
        if len(group) > 1:
            _check(group)


def _check(group: list[Condition]) -> None:
    operators = [condition.operator for condition in group]
    if Operator.ABSENT in operators:
        absent = group[operators.index(Operator.ABSENT)]
        raise _contradiction(absent, next(each for each in group if each is not absent))
    compared = [each for each in group if each.operator is not Operator.PRESENT]
    named = next((each for each in compared if each.operator in _NAMED), None)
    if named is not None:
        _check_named(named, [each for each in compared if each is not named])
    _check_bounds(compared)


def _check_named(named: Condition, others: list[Condition]) -> None:
    values = named.operand if named.operator is Operator.IN else (named.operand,)
    for other in others:
        values = tuple(value for value in values if _may_hold(other, value))
        if not values:
            raise _contradiction(named, other)


def _may_hold(condition: Condition, value: Any) -> bool:
    if isinstance(value, Network):
        return _networks_may_hold(condition, value)
    if getattr(value, "covers", None) is not None:
        return True
    return verdict(condition.operator, value, condition.operand) is True


def _networks_may_hold(condition: Condition, network: Network) -> bool:
    blocks = [each.block for each in condition.operand if isinstance(each, Network)]
    same = [block for block in blocks if block.version == network.block.version]
    if condition.operator is Operator.NOT_IN:
        return not any(network.block.subnet_of(block) for block in same)  # type: ignore[arg-type]
    return any(network.block.overlaps(block) for block in same)


def _check_bounds(group: list[Condition]) -> None:
    lower = [each for each in group if each.operator in _LOWER]
    upper = [each for each in group if each.operator in _UPPER]
    for low in lower:
        for high in upper:
            touches = low.operator is Operator.AT_LEAST and high.operator is Operator.AT_MOST
            if low.operand > high.operand or (low.operand == high.operand and not touches):
                raise _contradiction(low, high)


def _contradiction(one: Condition, other: Condition) -> ConfigurationError:
    return ConfigurationError(
        f"contradictory: `{one.text}` and `{other.text}` cannot hold together"
        " (alternatives are two rules)"
    )
