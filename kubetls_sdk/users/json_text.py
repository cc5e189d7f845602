# SPDX-License-Identifier: Apache-2.0
"""JSON objects that two parsers cannot read differently.

Rules:
    1. UTF-8 only, each key of an object once, no `NaN` or `Infinity`.
    2. What is malformed is a `ValueError` whose message holds none of the text.

Spec: RFC 8259 §4, §8.1; RFC 8725 §3.7; RFC 7519 §4 (duplicate claims).
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

__all__ = ("parse_object",)


def parse_object(text: bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        ValueError: Not UTF-8, not JSON, a duplicate key, or not an object.
    """
    try:
        found = _DECODER.decode(text.decode("utf-8"))
    except RecursionError:
        raise ValueError("expected JSON that is nested less") from None
    except UnicodeDecodeError:
        raise ValueError("expected UTF-8") from None
    except json.JSONDecodeError as err:
        raise ValueError(f"expected JSON: {err.msg}") from None
    if not isinstance(found, dict):
        raise ValueError("expected a JSON object")  # noqa: TRY004 - a malformed text, not a type
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("expected each key of a JSON object once")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"expected JSON numbers, got {name}")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
