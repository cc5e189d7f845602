# SPDX-License-Identifier: Apache-2.0
"""A small interpreter of JSON Patch, as strict as the API server's.

Spec: RFC 6902 §4.1 and §4.3, RFC 6901 §4.
"""

from __future__ import annotations

import json
from typing import Any


def apply(document: Any, operations: Any) -> Any:
    """Apply `add` and `replace` operations to a copy; anything that is not exact raises."""
    document = _copied(document)
    for operation in operations:
        assert set(operation) == {"op", "path", "value"}
        *way, last = [
            part.replace("~1", "/").replace("~0", "~")
            for part in operation["path"].removeprefix("/").split("/")
        ]
        target = document
        for part in way:
            target = target[int(part)] if isinstance(target, list) else target[part]
        _set(target, last, operation["op"], _copied(operation["value"]))
    return document


def _set(target: Any, last: str, op: str, value: Any) -> None:
    if isinstance(target, list):
        assert op == "add"
        target.insert(len(target) if last == "-" else int(last), value)
    else:
        assert op == "add" or last in target
        target[last] = value


def _copied(value: Any) -> Any:
    """What JSON keeps of a value: nothing is shared."""
    return json.loads(json.dumps(value))
