# SPDX-License-Identifier: Apache-2.0
"""`to` in YAML: one alternative of what a rule is about.

Rules:
    1. HTTP (`methods`, `paths`, `websocket`), gRPC (`grpc`) and the application's own actions
       (`actions` with `resources`) are three different things: one item names one of them.
    2. `hosts` and `ports` narrow any of them.
    3. What stands under `not…` is excluded; an allow rule excludes a path with its trailing slash
       and GET with what GET covers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from kubetls_sdk.authz.attribute import Attribute, host_only
from kubetls_sdk.authz.condition import Condition, Operator
from kubetls_sdk.authz.details import ACTION, GRPC, WEBSOCKET
from kubetls_sdk.authz.fields import Fields, parse_port
from kubetls_sdk.authz.model import Effect, Operation
from kubetls_sdk.authz.template import ANY_SEGMENT, PathTemplate
from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("ANYTHING", "OPERATION_FIELDS", "parse_operation")

_NARROWING = ("notMethods", "notPaths", "hosts", "notHosts", "ports", "notPorts")
_HTTP = ("methods", "paths", "websocket", "notMethods", "notPaths")
_ACTIONS = ("actions", "resources")
OPERATION_FIELDS = frozenset({*_HTTP, *_ACTIONS, "grpc", "hosts", "ports", "notHosts", "notPorts"})

ANYTHING = Operation(None, (PathTemplate((), is_prefix=True),))
"""Every operation: what a deny rule without `to` is about."""

_METHOD = re.compile(r"[A-Z]{1,32}", re.ASCII)
_GRPC = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*)/([A-Za-z_][A-Za-z0-9_]*|\*)", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*|\*", re.ASCII)
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\]", re.ASCII)
_EVERY_PATH = PathTemplate.parse("/**")


@dataclass(frozen=True, slots=True)
class HostPattern:
    """A host, or `*.` and a domain for all of its subdomains; lower case, without port."""

    text: str

    @classmethod
    def parse(cls, text: str) -> HostPattern:
        """Parse a host.

        Raises:
            ConfigurationError: Not a host, or with a port.
        """
        host = text.lower().removesuffix(".")
        if not _HOST.fullmatch(host) or host_only(host) != host:
            raise ConfigurationError(f"expected a host without port (see ports), got {text!r}")
        return cls(host)

    def covers(self, host: object) -> bool | None:
        """Tell whether a host fits."""
        if not isinstance(host, str):
            return None
        if self.text.startswith("*."):
            return host.endswith(self.text[1:]) and host[0] != "."
        return host == self.text


def parse_operation(fields: Fields, *, effect: Effect) -> Operation:
    """Read one alternative of `to`.

    Raises:
        PolicyError: Unclear or contradictory.
    """
    kind = _kind(fields.names)
    if kind is None:
        raise fields.error("expected methods, paths, websocket, grpc, actions, hosts or ports")
    if " " in kind:
        raise fields.error(f"expected {kind} in different items of 'to'")
    methods, templates = _reach(fields, kind)
    if fields.names.isdisjoint(_NARROWING):
        return Operation(methods, templates)
    _check_exclusions(fields, templates)
    return Operation(methods, templates, _narrowed(fields, effect))


@lru_cache(256)
def _kind(names: frozenset[str]) -> str | None:
    """The field that says what an item is about; "a and b" for two, None for none."""
    groups = (("grpc",), _ACTIONS, _HTTP)
    found = [name for group in groups if (name := next(filter(names.__contains__, group), None))]
    narrows = not names.isdisjoint(("hosts", "ports", "notHosts", "notPorts"))
    return " and ".join(found[:2]) or ("paths" if narrows else None)


def _check_exclusions(fields: Fields, templates: tuple[PathTemplate, ...]) -> None:
    excluded = fields.values("notPaths", PathTemplate.parse)
    if excluded and all(any(out.contains(path) for out in excluded) for path in templates):
        raise fields.error("contradictory: all paths are excluded", fields.line_of("notPaths"))
    for name, negative in (("methods", "notMethods"), ("hosts", "notHosts"), ("ports", "notPorts")):
        named = {text.lower() for text in fields.texts(name)}
        if named and named <= {text.lower() for text in fields.texts(negative)}:
            raise fields.error(f"contradictory: all {name} are excluded", fields.line_of(negative))


def _reach(fields: Fields, kind: str) -> tuple[frozenset[str] | None, tuple[PathTemplate, ...]]:
    if kind == "grpc":
        return frozenset({GRPC}), fields.values("grpc", _grpc)
    if kind in _ACTIONS:
        return frozenset({ACTION}), _actions(fields)
    methods: Iterable[str] = fields.values("methods", _method)
    if fields.flag("websocket"):
        methods = (*methods, WEBSOCKET)
    elif "websocket" in fields.names:
        raise fields.error("expected websocket to be true or absent", fields.line_of("websocket"))
    templates = fields.values("paths", PathTemplate.parse)
    return _shared(tuple(methods)), templates or (_every(fields),)


@lru_cache(64)
def _shared(methods: tuple[str, ...]) -> frozenset[str] | None:
    # Thousands of rules have the same few sets of methods.
    return frozenset(methods) or None


def _every(fields: Fields) -> PathTemplate:
    # Without any HTTP field a deny rule by host or port also covers the application's own actions.
    return _EVERY_PATH if fields.has(*_HTTP) else ANYTHING.templates[0]


def _actions(fields: Fields) -> tuple[PathTemplate, ...]:
    for name in _ACTIONS:
        if not fields.has(name):
            raise fields.error(f"expected {name} beside {fields.first(*_ACTIONS)}")
    return tuple(
        PathTemplate((resource, action))
        for resource in fields.values("resources", _name)
        for action in fields.values("actions", _name)
    )


@lru_cache(64)
def _method(text: str) -> str:
    if not _METHOD.fullmatch(text):
        raise ConfigurationError(f"expected an HTTP method in upper case, got {text!r}")
    return text


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ConfigurationError(f"expected letters, digits, '.', ':', '_', '-', got {text!r}")
    return text


def _grpc(text: str) -> PathTemplate:
    match = _GRPC.fullmatch(text)
    if match is None:
        raise ConfigurationError(f"expected package.Service/Method or /*, got {text!r}")
    return PathTemplate(("", match[1], ANY_SEGMENT if match[2] == "*" else match[2]))


def _narrowed(fields: Fields, effect: Effect) -> tuple[Condition, ...]:
    is_allow = effect is Effect.ALLOW
    methods = fields.values("notMethods", _method)
    paths = fields.values("notPaths", PathTemplate.parse)
    if is_allow:
        paths += tuple(path.with_slash() for path in paths)
    parts: tuple[tuple[str, str, Operator, tuple[Any, ...]], ...] = (
        ("notMethods", "method", Operator.NOT_IN, methods),
        ("notPaths", "path", Operator.NOT_IN, paths),
        ("hosts", "host", Operator.IN, fields.values("hosts", HostPattern.parse)),
        ("notHosts", "host", Operator.NOT_IN, fields.values("notHosts", HostPattern.parse)),
        ("ports", "port", Operator.IN, fields.values("ports", parse_port)),
        ("notPorts", "port", Operator.NOT_IN, fields.values("notPorts", parse_port)),
    )
    return tuple(
        Condition(
            Attribute("request", (name,)), operator, operand,
            f"{field}: {', '.join(fields.texts(field))}",
        )
        for field, name, operator, operand in parts
        if operand
    )  # fmt: skip
