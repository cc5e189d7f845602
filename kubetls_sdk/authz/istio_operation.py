# SPDX-License-Identifier: Apache-2.0
"""One operation of an Istio AuthorizationPolicy.

Rules:
    1. `/a/*` is a prefix of text in Istio: it fits `/a/` and what is below, but not `/a`.
    2. In Istio a WebSocket handshake is a GET, and GET does not cover HEAD.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubetls_sdk.authz.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubetls_sdk.authz.yaml_node import Node

__all__ = ("convert_operation",)

_OPERATION = frozenset(
    {"hosts", "notHosts", "ports", "notPorts", "methods", "notMethods", "paths", "notPaths"}
)


def convert_operation(node: Node, rule: Fields, *, is_deny: bool) -> Iterator[dict[str, Any]]:
    """Convert one operation into one or two items of `to`.

    Raises:
        PolicyError: A wildcard that cannot be carried over.
    """
    fields = Fields(node, file=rule.file, known=_OPERATION, rule=rule.rule)
    methods = [method for method in _exact(fields, "methods") if method != "*"]
    item: dict[str, Any] = {
        "paths": [path for text in fields.texts("paths") for path in _paths(text, fields)],
        "notPaths": [path for text in fields.texts("notPaths") for path in _paths(text, fields)],
        "notMethods": list(_exact(fields, "notMethods")),
        "hosts": [host for text in fields.texts("hosts") for host in _host(text, fields)],
        "notHosts": [host for text in fields.texts("notHosts") for host in _host(text, fields)],
        "ports": [_port(text) for text in fields.texts("ports")],
        "notPorts": [_port(text) for text in fields.texts("notPorts")],
    }
    item = {name: value for name, value in item.items() if value}
    yield {**_http(methods, item, is_deny=is_deny), **({} if item else {"paths": "/**"})}
    upgrades = not methods or "GET" in methods
    if not is_deny and upgrades and "GET" not in item.get("notMethods", ()):
        rest = {name: value for name, value in item.items() if name != "notMethods"}
        yield {"websocket": True, **rest}


def _http(methods: list[str], item: dict[str, Any], *, is_deny: bool) -> dict[str, Any]:
    if not methods:
        return item
    if is_deny or "GET" not in methods or "HEAD" in methods:
        return {"methods": methods, **item}
    return {"methods": methods, **item, "notMethods": [*item.get("notMethods", ()), "HEAD"]}


def _exact(fields: Fields, name: str) -> Iterator[str]:
    for text in fields.texts(name):
        if "*" in text and (text != "*" or name.startswith("not")):
            raise fields.error(f"{name} {text!r}: a wildcard")
        yield text


def _paths(text: str, fields: Fields) -> list[str]:
    if text == "*":
        return ["/**"]
    if text.endswith("/{**}"):
        return _below(text.removesuffix("/{**}").replace("{*}", "*"))
    if "{*}" in text and "**" not in text:
        return [text.replace("{*}", "*")]
    if text.endswith("/*") and "*" not in text[:-1]:
        return _below(text.removesuffix("/*"))
    if "*" in text:
        raise fields.error(f"path {text!r}: a wildcard that is not a whole last part")
    return [text]


def _below(prefix: str) -> list[str]:
    return [f"{prefix}/", f"{prefix}/*/**"]


def _host(text: str, fields: Fields) -> list[str]:
    host, colon, port = text.partition(":")
    if "*" in host.removeprefix("*.") or (colon and port != "*"):
        raise fields.error(f"host {text!r}: a port or a wildcard that is not the first label")
    return [host]


def _port(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
