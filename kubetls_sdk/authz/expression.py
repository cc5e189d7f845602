# SPDX-License-Identifier: Apache-2.0
"""The text form of conditions: `attribute operator operand`.

`user.role in ['admin', 'clerk']` · `path.user == user.sub` · `source.address in '10.0.0.0/8'` ·
`time.clock >= '08:00'` · `header.x-tenant == 'acme'` · `user.mfa == true` · `user.email present`

Rules:
    1. One comparison, nothing nested: "and" is a list of conditions, "or" is another rule.
    2. Texts are quoted, without escapes; numbers are decimal; times are UTC.
    3. Operand and operator have to fit the attribute's type: a misfit is an error when parsed.
"""

from __future__ import annotations

import re
from typing import Any

from kubetls_sdk.authz.attribute import ROOTS, Attribute, check_header
from kubetls_sdk.authz.condition import Condition, Operator
from kubetls_sdk.authz.operand import FIXED_TYPES, convert
from kubetls_sdk.exceptions import ConfigurationError

__all__ = ("parse_condition",)

_MAX_LENGTH = 4096
_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_ATTRIBUTE = re.compile(rf"({_NAME})((?:\.{_NAME}|\['[^'\\]*'\])*)", re.ASCII)
_PART = re.compile(rf"\.({_NAME})|\['([^'\\]*)'\]", re.ASCII)
_OPERATOR = re.compile(
    r"\s*(==|!=|<=|>=|<|>|not in\b|in\b|startsWith\b|endsWith\b|not contains\b|contains\b"
    r"|present\b|absent\b)\s*",
    re.ASCII,
)
_TEXT = r"'[^'\\]*'|\"[^\"\\]*\""
_NUMBER = r"-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,15})?"
_VALUE = re.compile(rf"{_TEXT}|{_NUMBER}|true|false", re.ASCII)
_LIST = re.compile(
    rf"\[\s*(?:(?:{_VALUE.pattern})\s*(?:,\s*(?:{_VALUE.pattern})\s*)*)?\]", re.ASCII
)
_UNARY = (Operator.PRESENT, Operator.ABSENT)
_AS_MEMBERSHIP = {Operator.EQUAL: Operator.IN, Operator.NOT_EQUAL: Operator.NOT_IN}


def parse_condition(text: str) -> Condition:
    """Parse one condition.

    Raises:
        ConfigurationError: Not a condition, an unknown attribute, or types that do not fit.
    """
    if len(text) > _MAX_LENGTH:
        raise ConfigurationError(f"expected a condition of at most {_MAX_LENGTH} characters")
    text = text.strip()
    if not text.isprintable():
        raise ConfigurationError(f"expected printable characters in a condition, got {text!r}")
    name = _ATTRIBUTE.match(text)
    sign = _OPERATOR.match(text, name.end()) if name else None
    if name is None or sign is None:
        raise ConfigurationError(f"expected `attribute operator value`, got {text!r}")
    attribute = _attribute(name[1], name[2], text)
    operator = Operator(sign[1])
    rest = text[sign.end() :]
    if operator in _UNARY:
        if rest:
            raise ConfigurationError(f"expected nothing after {operator.value!r}, got {text!r}")
        return Condition(attribute, operator, None, text)
    operand = convert(attribute, operator, _operand(rest, text), text)
    if str(attribute) == "source.address":
        operand = operand if isinstance(operand, tuple) else (operand,)
        operator = _AS_MEMBERSHIP.get(operator, operator)
    return Condition(attribute, operator, operand, text)


def _attribute(root: str, rest: str, text: str) -> Attribute:
    names = tuple(match[1] or match[2] for match in _PART.finditer(rest))
    if root not in ROOTS or not names or "" in names:
        expected = ", ".join(f"{name}.…" for name in sorted(ROOTS))
        raise ConfigurationError(f"expected one of the attributes {expected}, got {text!r}")
    if root not in ("user", "resource") and len(names) != 1:
        raise ConfigurationError(f"expected one name after '{root}.', got {text!r}")
    attribute = Attribute(root, names)
    if root == "header":
        check_header(names[0])
    elif root != "path" and root not in ("user", "resource") and str(attribute) not in FIXED_TYPES:
        expected = ", ".join(sorted(FIXED_TYPES))
        raise ConfigurationError(f"expected one of {expected}, got {str(attribute)!r}")
    return attribute


def _operand(rest: str, text: str) -> Any:
    if _VALUE.fullmatch(rest):
        return _value(rest)
    if _LIST.fullmatch(rest):
        return tuple(_value(match[0]) for match in _VALUE.finditer(rest))
    name = _ATTRIBUTE.fullmatch(rest)
    if name is None:
        raise ConfigurationError(
            f"expected a quoted text, a number, true, false, a list or an attribute, got {text!r}"
        )
    return _attribute(name[1], name[2], text)


def _value(word: str) -> str | float | bool:
    if word in ("true", "false"):
        return word == "true"
    if word[0] in "'\"":
        return word[1:-1]
    return float(word) if "." in word else int(word)
