# SPDX-License-Identifier: Apache-2.0
"""Path templates: whole segments, with named or unnamed wildcards.

Rules:
    1. `{name}` and `*` are exactly one segment that is not empty; a final `**` is zero or more.
    2. A star or brace beside other characters is an error, not a literal.
    3. A template is written decoded, as the application routes on it, and is canonical itself.
    4. Case matters. A trailing slash is another path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("ANY_SEGMENT", "PathTemplate")

ANY_SEGMENT = "*"
_REST = "**"
_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)
_ORDINARY = re.compile(
    r"(?:/(?:[A-Za-z0-9_~@:!$&'()+,=-][A-Za-z0-9_~@:!$&'()+,=.-]*+|\{[A-Za-z_][A-Za-z0-9_]*\}|\*))++"
    r"(?:/\*\*|/)?",
    re.ASCII,
)
_NOT_LITERAL = re.compile(r"[*{}%?#;\\\x00-\x1f\x7f-\x9f\ufffd]")


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """A path in which whole segments may be wildcards.

    Attributes:
        segments: What `path.split("/")` has to fit, so the first is empty; `*` stands for any one.
        is_prefix: Whether the template ends in `**`.
        variables: Names with the index of their segment.
    """

    segments: tuple[str, ...]
    is_prefix: bool = False
    variables: tuple[tuple[str, int], ...] = ()

    @classmethod
    def parse(cls, text: str) -> PathTemplate:
        """Parse `/orders/{id}/**`.

        Raises:
            ConfigurationError: Not a canonical path apart from the wildcards.
        """
        return _parsed(text)

    def matches(self, path: str) -> bool:
        """Tell whether a canonical path fits."""
        found = path.split("/")
        if self.is_prefix:
            found = found[: len(self.segments)]
        return len(found) == len(self.segments) and all(
            want == got or (want == ANY_SEGMENT and got != "")
            for want, got in zip(self.segments, found, strict=True)
        )

    def contains(self, other: PathTemplate) -> bool:
        """Tell whether every path that fits the other template fits this one."""
        found = other.segments[: len(self.segments)] if self.is_prefix else other.segments
        if len(found) != len(self.segments) or (other.is_prefix and not self.is_prefix):
            return False
        return all(
            want == got or (want == ANY_SEGMENT and got != "")
            for want, got in zip(self.segments, found, strict=True)
        )

    def with_slash(self) -> PathTemplate:
        """The same with a trailing slash, or itself when it has one or covers it."""
        if self.is_prefix or not self.segments[-1]:
            return self
        return PathTemplate((*self.segments, ""), variables=self.variables)

    def covers(self, path: object) -> bool | None:
        """`matches`, as an operand of a condition."""
        return self.matches(path) if isinstance(path, str) else None

    def __str__(self) -> str:
        parts = list(self.segments)
        for name, index in self.variables:
            parts[index] = f"{{{name}}}"
        return "/".join([*parts, _REST] if self.is_prefix else parts)


@lru_cache(4096)
def _parsed(text: str) -> PathTemplate:
    # Many rules have the same few templates: parsed once, kept once.
    if not text.startswith("/"):
        raise ConfigurationError(f"expected a path that starts with '/', got {text!r}")
    parts = text.split("/")
    is_prefix = parts[-1] == _REST
    if is_prefix:
        parts.pop()
    variables = tuple(_variables(parts)) if "{" in text else ()
    if len(dict(variables)) != len(variables):
        raise ConfigurationError(f"expected each path variable once, got {text!r}")
    for _, index in variables:
        parts[index] = ANY_SEGMENT
    if not _ORDINARY.fullmatch(text):
        _check_literals(parts, text, is_prefix=is_prefix)
    return PathTemplate(tuple(parts), is_prefix, variables)


def _variables(parts: list[str]) -> Iterator[tuple[str, int]]:
    for index, part in enumerate(parts):
        match = _VARIABLE.fullmatch(part)
        if match:
            yield match[1], index


def _check_literals(segments: list[str], text: str, *, is_prefix: bool) -> None:
    last = len(segments) if is_prefix else len(segments) - 1
    for index, segment in enumerate(segments):
        if segment == ANY_SEGMENT:
            continue
        if _NOT_LITERAL.search(segment):
            raise ConfigurationError(
                "expected whole segments as wildcards, '**' only at the end, and no '%', '?', '#', "
                f"';', backslash or control character, got {text!r}"
            )
        if segment in (".", "..") or (not segment and 0 < index < last):
            raise ConfigurationError(f"expected no empty or dot segment, got {text!r}")
