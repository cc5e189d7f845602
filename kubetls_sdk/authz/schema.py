# SPDX-License-Identifier: Apache-2.0
"""A JSON Schema of the policy format, for completion and red underlines in editors.

Rules:
    1. The parser decides; the schema only knows fields, words and shapes. A test holds its fields
       to the parser's.
"""

from __future__ import annotations

from typing import Any

from kubetls_sdk.authz.operation import OPERATION_FIELDS
from kubetls_sdk.authz.selector import IDENTITY_FIELDS

__all__ = ("policy_schema",)

_TEXT = {"type": "string", "minLength": 1}
_FLAG = {"const": True}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
_SPECIAL = {"anonymous": _FLAG, "websocket": _FLAG}
_HINTS = {
    "spiffeId": "A SPIFFE ID; `*` is one segment, a final `**` one or more.",
    "trustDomain": "A trust domain, our own by default; `*` for every one.",
    "paths": "Templates: /orders/{id}, `*` for one segment, a final `**` for any rest.",
    "methods": "HTTP methods in upper case; GET covers HEAD.",
    "grpc": "package.Service/Method, or package.Service/*.",
}


def policy_schema() -> dict[str, Any]:
    """Make the schema (draft 2020-12)."""
    rule = _mapping(
        {
            "name": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"},
            "description": _TEXT,
            "from": _one_or_more(_mapping({name: _field(name) for name in IDENTITY_FIELDS})),
            "to": _one_or_more(_mapping({name: _field(name) for name in OPERATION_FIELDS})),
            "when": _one_or_more({**_TEXT, "description": "attribute operator value"}),
            "user": {"enum": ["required", "optional"]},
        },
        required=("name",),
    )
    policy = _mapping(
        {
            "name": rule["properties"]["name"],
            "description": _TEXT,
            "mode": {"enum": ["enforce", "shadow"]},
            "allow": {
                "type": "array",
                "items": {"allOf": [{"$ref": "#/$defs/rule"}, {"required": ["from", "to"]}]},
            },
            "deny": {"type": "array", "items": {"$ref": "#/$defs/rule"}},
        },
        required=("name",),
    )
    top = _mapping(
        {"version": {"const": 1}, "policies": {"type": "array", "items": policy}},
        required=("version",),
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "KubeTLS policy",
        **top,
        "$defs": {"rule": rule},
    }


def _field(name: str) -> dict[str, Any]:
    if name in _SPECIAL:
        return dict(_SPECIAL[name])
    item = _PORT if name in ("ports", "notPorts") else _TEXT
    schema = _one_or_more(item)
    return {**schema, "description": _HINTS[name]} if name in _HINTS else schema


def _one_or_more(item: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}


def _mapping(properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    ordered = dict(sorted(properties.items()))
    return {
        "type": "object",
        "properties": ordered,
        "required": list(required),
        "additionalProperties": False,
    }
