# SPDX-License-Identifier: Apache-2.0
"""Typed reading of one YAML mapping, with the file, line and rule in each error.

Rules:
    1. Unknown fields are errors.
    2. A text is what was written; `null`, `~`, an empty value and a boolean word in the place of a
       truth value are errors, never guessed.
    3. Where a list is expected, one value alone is a list of one; an empty list is an error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from kubetls_sdk.authz.yaml_node import Mapping, Node, Scalar, Sequence, YamlReader
from kubetls_sdk.exceptions import ConfigurationError, PolicyError, SpiffeIdError

if TYPE_CHECKING:
    from collections.abc import Callable, Set
    from typing import Self

__all__ = ("Fields",)

T = TypeVar("T")

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTH = {"true": True, "false": False}
_VERSION = "1"
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?", re.ASCII)
_INTEGER = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)


class Fields:
    """The fields of one mapping.

    Args:
        node: The mapping.
        file: Name of the file.
        rule: Name of the rule, when inside one.
        known: Names of the fields that may occur.

    Attributes:
        names: Of the fields that are there.

    Raises:
        PolicyError: Not a mapping, or an unknown field.
    """

    def __init__(self, node: Node, *, file: str, known: Set[str], rule: str | None = None) -> None:
        self.file = file
        self.rule = rule
        self.line = node.line
        if not isinstance(node, Mapping):
            raise self.error(f"expected a mapping with {', '.join(sorted(known))}", node.line)
        self._node = node
        self.names = frozenset(node.entries)
        if not self.names <= known:
            name, line = next(item for item in node.lines.items() if item[0] not in known)
            expected = ", ".join(sorted(known))
            raise self.error(f"unknown field {name!r}, expected one of {expected}", line)

    @classmethod
    def of_document(cls, text: str, *, file: str, known: Set[str]) -> Self:
        """Read a text that is one mapping, with `version: 1` in it.

        Raises:
            PolicyError: Not YAML, several documents, an unknown field, or another version.
        """
        reader = YamlReader(text, file=file)
        try:
            reader.start()
            node = reader.node()
            reader.finish()
        except yaml.YAMLError as err:
            raise reader.broken(err) from None
        fields = cls(node, file=file, known=known)
        if fields.text("version") != _VERSION:
            raise fields.error(f"expected version {_VERSION}", fields.line_of("version"))
        return fields

    def error(self, message: str, line: int | None = None) -> PolicyError:
        """Make an error at a line, or at the start of the mapping."""
        return PolicyError(message, file=self.file, line=line or self.line, rule=self.rule)

    def has(self, *names: str) -> bool:
        """Tell whether any of the fields is there."""
        return not self.names.isdisjoint(names)

    def first(self, *names: str) -> str | None:
        """The first of the fields that is there."""
        return next((name for name in names if name in self._node.entries), None)

    def line_of(self, name: str) -> int:
        """Where a field is, or where the mapping starts."""
        return self._node.lines.get(name, self.line)

    def text(self, name: str) -> str:
        """A text that has to be there."""
        node = self._node.entries.get(name)
        if node is None:
            raise self.error(f"expected a field {name!r}")
        return self._scalar(name, node).value

    def flag(self, name: str) -> bool:
        """`true` or `false`; False when absent."""
        node = self._node.entries.get(name)
        if node is None:
            return False
        scalar = self._scalar(name, node)
        if not scalar.is_plain or scalar.value not in _TRUTH:
            raise self.error(
                f"expected {name} to be true or false, got {scalar.value!r}", scalar.line
            )
        return _TRUTH[scalar.value]

    def number(self, name: str) -> float:
        """A number in decimal notation, without a sign, that has to be there."""
        text = self.text(name)
        if not _NUMBER.fullmatch(text):
            raise self.error(f"expected {name} to be a number, got {text!r}", self.line_of(name))
        return float(text)

    def made(self, make: Callable[..., T], arguments: dict[str, Any]) -> T:
        """Call a constructor; what it refuses is an error of the file, at this place."""
        try:
            return make(**arguments)
        except PolicyError:
            raise
        except ConfigurationError as err:
            raise self.error(str(err)) from err

    def values(self, name: str, parse: Callable[[str], T]) -> tuple[T, ...]:
        """A list, or one value, each parsed; empty when absent."""
        node = self._node.entries.get(name)
        if node is None:
            return ()
        if type(node) is Scalar:
            return (self._value(name, node, parse),)
        found = [self._value(name, each, parse) for each in self.nodes(name)]
        if len(found) > 1 and len(set(found)) != len(found):
            raise self.error(f"expected each value of {name} once", self.line_of(name))
        return tuple(found)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts, or one; empty when absent."""
        return self.values(name, str)

    def nodes(self, name: str) -> list[Node]:
        """A list of nodes, or one; empty when absent."""
        node = self._node.entries.get(name)
        if node is None:
            return []
        if not isinstance(node, Sequence):
            return [node]
        if not node.items:
            raise self.error(f"expected {name} to have at least one value", node.line)
        return node.items

    def listed(self, name: str) -> list[Node]:
        """A list of nodes that has to be there, and may be empty."""
        node = self._node.entries.get(name)
        if not isinstance(node, Sequence):
            raise self.error(f"expected {name!r} to be a list", self.line_of(name))
        return node.items

    def _value(self, name: str, node: Node, parse: Callable[[str], T]) -> T:
        scalar = self._scalar(name, node)
        try:
            return parse(scalar.value)
        except (ConfigurationError, SpiffeIdError) as err:
            raise self.error(f"{name}: {err}", scalar.line) from None

    def _scalar(self, name: str, node: Node) -> Scalar:
        if not isinstance(node, Scalar):
            raise self.error(f"expected {name} to be text", node.line)
        if node.is_plain and node.value in _NULLS:
            raise self.error(f"expected {name} to have a value (quote it if meant)", node.line)
        if not node.value:
            raise self.error(f"expected {name} to be non-empty text", node.line)
        return node


def parse_port(text: str) -> int:
    """Parse a port number.

    Raises:
        ConfigurationError: Not a decimal number from 1 to 65535 (no sign, no leading zero).
    """
    if not _INTEGER.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise ConfigurationError(f"expected a port from 1 to 65535, got {text!r}")
    return int(text)
