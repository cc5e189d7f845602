# SPDX-License-Identifier: Apache-2.0
"""YAML as a small tree of texts, lists and mappings, each with its line.

Rules:
    1. A scalar stays the text that was written: `no`, `on`, `010` and `1e3` never become something
       else. Who reads the tree says what a text means.
    2. Refused: duplicate keys, keys that are not plain text, tags, merge keys, several documents.
    3. Bounded: size, depth, and what aliases expand to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from kubetls_sdk.exceptions import PolicyError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("MAX_TEXT_BYTES", "Mapping", "Node", "Scalar", "Sequence", "YamlReader")

MAX_TEXT_BYTES = 16 * 1024 * 1024
_MAX_DEPTH = 12
_MAX_ALIASED_NODES = 50_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class Scalar:
    """A text; `is_plain` when it was written without quotes."""

    value: str
    is_plain: bool
    line: int
    size: int = 1


@dataclass(slots=True)
class Sequence:
    """A list."""

    items: list[Node]
    line: int
    size: int = 1


@dataclass(slots=True)
class Mapping:
    """A mapping; keys are texts, each once."""

    entries: dict[str, Node]
    line: int
    size: int = 1
    lines: dict[str, int] = field(default_factory=dict)


Node = Scalar | Sequence | Mapping


class YamlReader:
    """Reads one document, node by node or, for long lists, item by item.

    Args:
        text: The document.
        file: Its name, for errors.

    Raises:
        PolicyError: Too long.
    """

    def __init__(self, text: str, *, file: str) -> None:
        self.file = file
        if len(text) > MAX_TEXT_BYTES:
            raise PolicyError(f"expected at most {MAX_TEXT_BYTES} bytes of YAML", file=file)
        self._anchors: dict[str, Node] = {}
        self._aliased = 0
        self._next: Any = None
        try:
            self._loader = _LOADER(text)
        except yaml.YAMLError as err:
            raise self._broken(err) from None
        self._event: Any = None
        self.advance()

    def error(self, message: str, line: int | None = None) -> PolicyError:
        """Make an error at a line, or where the reader is."""
        at = self.line if line is None else line
        return PolicyError(message, file=self.file, line=at)

    @property
    def line(self) -> int:
        """Where the next node starts, 1-based."""
        return int(self._event.start_mark.line) + 1

    def start(self) -> None:
        """Enter the only document."""
        self.advance()
        if isinstance(self._event, yaml.StreamEndEvent):
            raise self.error("expected a policy document, got an empty file")
        self.advance()

    def next_document(self) -> bool:
        """Leave a document; enter the next one when there is one."""
        self.advance()
        if isinstance(self._event, yaml.StreamEndEvent):
            return False
        self._anchors = {}
        self.advance()
        return True

    def finish(self) -> None:
        """Make sure that nothing follows the document."""
        self.advance()
        if not isinstance(self._event, yaml.StreamEndEvent):
            raise self.error("expected one YAML document, got another one")

    def pairs(self) -> Iterator[tuple[str, int]]:
        """Walk the keys of a mapping; the caller reads each value before the next key."""
        if not isinstance(self._event, yaml.MappingStartEvent):
            raise self.error("expected a mapping")
        self._refuse_tag()
        self.advance()
        seen: dict[str, int] = {}
        while not isinstance(self._event, yaml.MappingEndEvent):
            key, line = self._key(seen)
            seen[key] = line
            yield key, line
        self.advance()

    def items(self) -> Iterator[None]:
        """Walk the items of a list; the caller reads each one."""
        if not isinstance(self._event, yaml.SequenceStartEvent):
            raise self.error("expected a list")
        self._refuse_tag()
        self.advance()
        while not isinstance(self._event, yaml.SequenceEndEvent):
            yield
        self.advance()

    def node(self, depth: int = 0) -> Node:
        """Read one whole node."""
        event = self._event
        kind = type(event)
        if kind is yaml.AliasEvent:
            return self._alias()
        anchor = event.anchor
        line = int(event.start_mark.line) + 1
        node: Node
        if kind is yaml.ScalarEvent:
            if event.tag is not None:
                self._refuse_tag()
            node = Scalar(event.value, event.implicit[0], line)
            self.advance()
        elif depth >= _MAX_DEPTH:
            raise self.error(f"expected at most {_MAX_DEPTH} levels")
        elif kind is yaml.SequenceStartEvent:
            nodes = [self.node(depth + 1) for _ in self.items()]
            node = Sequence(nodes, line, 1 + sum(item.size for item in nodes))
        else:
            node = self._mapping(line, depth)
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _mapping(self, line: int, depth: int) -> Mapping:
        entries: dict[str, Node] = {}
        lines: dict[str, int] = {}
        for key, at in self.pairs():
            lines[key] = at
            entries[key] = self.node(depth + 1)
        size = 1 + sum(value.size for value in entries.values())
        return Mapping(entries, line, size, lines)

    def _key(self, seen: dict[str, int]) -> tuple[str, int]:
        event: Any = self._event
        if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
            raise self.error("expected a text as key")
        key, line = str(event.value), self.line
        if key in seen:
            raise self.error(f"expected each key once, got {key!r} again (line {seen[key]})")
        self.advance()
        return key, line

    def _alias(self) -> Node:
        node = self._anchors.get(self._event.anchor)
        if node is None:
            raise self.error(f"expected an anchor before its alias, got {self._event.anchor!r}")
        self._aliased += node.size
        if self._aliased > _MAX_ALIASED_NODES:
            raise self.error("expected aliases that expand to less")
        self.advance()
        return node

    def _refuse_tag(self) -> None:
        if self._event.tag is not None:
            raise self.error(f"expected no YAML tag, got {self._event.tag!r}")

    def advance(self) -> None:
        """Take the next event."""
        try:
            self._event = self._loader.get_event()
        except yaml.YAMLError as err:
            raise self._broken(err) from None

    def _broken(self, err: yaml.YAMLError) -> PolicyError:
        marks = (getattr(err, name, None) for name in ("problem_mark", "context_mark"))
        mark: Any = next(filter(None, marks), None)
        problem = getattr(err, "problem", None) or getattr(err, "reason", None) or "not readable"
        line = None if mark is None else int(mark.line) + 1
        return PolicyError(f"expected YAML, got: {problem}", file=self.file, line=line)
