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


@dataclass(slots=True)
class Sequence:
    """A list."""

    items: list[Node]
    line: int


@dataclass(slots=True)
class Mapping:
    """A mapping; keys are texts, each once."""

    entries: dict[str, Node]
    line: int
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
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._made = 0
        self._aliased = 0
        try:
            self._take = _LOADER(text).get_event
            self._event: Any = self._take()
        except yaml.YAMLError as err:
            raise self.broken(err) from None
        except UnicodeEncodeError:
            raise PolicyError("expected text, got a lone surrogate", file=file) from None

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
        self._event = self._take()
        if isinstance(self._event, yaml.StreamEndEvent):
            raise self.error("expected a policy document, got an empty file")
        self._event = self._take()

    def next_document(self) -> bool:
        """Leave a document; enter the next one when there is one."""
        self._event = self._take()
        if isinstance(self._event, yaml.StreamEndEvent):
            return False
        self._anchors = {}
        self._event = self._take()
        return True

    def finish(self) -> None:
        """Make sure that nothing follows the document."""
        self._event = self._take()
        if not isinstance(self._event, yaml.StreamEndEvent):
            raise self.error("expected one YAML document, got another one")

    def pairs(self) -> Iterator[tuple[str, int]]:
        """Walk the keys of a mapping; the caller reads each value before the next key."""
        if not isinstance(self._event, yaml.MappingStartEvent):
            raise self.error("expected a mapping")
        self._refuse_tag()
        self._event = self._take()
        seen: dict[str, int] = {}
        while not isinstance(self._event, yaml.MappingEndEvent):
            key = self._key(seen)
            yield key, seen[key]
        self._event = self._take()

    def items(self) -> Iterator[None]:
        """Walk the items of a list; the caller reads each one."""
        if not isinstance(self._event, yaml.SequenceStartEvent):
            raise self.error("expected a list")
        self._refuse_tag()
        self._event = self._take()
        while not isinstance(self._event, yaml.SequenceEndEvent):
            yield
        self._event = self._take()

    def node(self, depth: int = 0) -> Node:
        """Read one whole node."""
        event = self._event
        kind = type(event)
        before = self._made
        self._made += 1
        node: Node
        if kind is yaml.ScalarEvent:
            if event.tag is not None:
                self._refuse_tag()
            node = Scalar(event.value, event.implicit[0], event.start_mark.line + 1)
            self._event = self._take()
        elif kind is yaml.AliasEvent:
            return self._alias()
        elif depth >= _MAX_DEPTH:
            raise self.error(f"expected at most {_MAX_DEPTH} levels")
        else:
            if event.tag is not None:
                self._refuse_tag()
            read = self._sequence if kind is yaml.SequenceStartEvent else self._mapping
            node = read(event.start_mark.line + 1, depth + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = node, self._made - before
        return node

    def _sequence(self, line: int, depth: int) -> Sequence:
        nodes = []
        self._event = self._take()
        while type(self._event) is not yaml.SequenceEndEvent:
            nodes.append(self.node(depth))
        self._event = self._take()
        return Sequence(nodes, line)

    def _mapping(self, line: int, depth: int) -> Mapping:
        entries: dict[str, Node] = {}
        lines: dict[str, int] = {}
        self._event = self._take()
        while type(self._event) is not yaml.MappingEndEvent:
            key = self._key(lines)
            entries[key] = self.node(depth)
        self._event = self._take()
        return Mapping(entries, line, lines)

    def _key(self, seen: dict[str, int]) -> str:
        event: Any = self._event
        if type(event) is not yaml.ScalarEvent or event.tag is not None:
            raise self.error("expected a text as key")
        key: str = event.value
        if key in seen:
            raise self.error(f"expected each key once, got {key!r} again (line {seen[key]})")
        mark: Any = event.start_mark
        seen[key] = mark.line + 1
        self._event = self._take()
        return key

    def _alias(self) -> Node:
        name = self._event.anchor
        if name not in self._anchors:
            raise self.error(f"expected an anchor before its alias, got {name!r}")
        node, size = self._anchors[name]
        self._aliased += size
        if self._aliased > _MAX_ALIASED_NODES:
            raise self.error("expected aliases that expand to less")
        self._event = self._take()
        return node

    def _refuse_tag(self) -> None:
        if self._event.tag is not None:
            raise self.error(f"expected no YAML tag, got {self._event.tag!r}")

    def broken(self, err: yaml.YAMLError) -> PolicyError:
        """Say where the text is not YAML; who reads catches `yaml.YAMLError`."""
        marks = (getattr(err, name, None) for name in ("problem_mark", "context_mark"))
        mark: Any = next(filter(None, marks), None)
        problem = getattr(err, "problem", None) or getattr(err, "reason", None) or "not readable"
        line = None if mark is None else int(mark.line) + 1
        return PolicyError(f"expected YAML, got: {problem}", file=self.file, line=line)
