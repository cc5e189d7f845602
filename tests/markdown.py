# SPDX-License-Identifier: Apache-2.0
"""The code blocks and links of Markdown files, for the tests of the documentation.

A comment right before a block says how it is treated: `<!-- not executed: why -->`,
`<!-- parsed only: why -->` or `<!-- run: how -->`.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FENCE = re.compile(
    r"(?:^[ ]*<!-- (?P<note>[^\n]*?) -->\n+)?"
    r"^(?P<indent>[ ]*)```(?P<language>[a-z]*)(?P<attributes>[^\n]*)\n"
    r"(?P<body>.*?)"
    r"^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_TITLE = re.compile(r'title="([^"]+)"')
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_SPAN = re.compile(r"`([^`]+)`")
_NOTES = ("not executed", "parsed only", "run")


@dataclass(frozen=True)
class Block:
    """One fenced block of code.

    Attributes:
        page: The file, relative to the root of the repository.
        line: Of its first line of code, from 1.
        language: As the fence names it; empty when it does not.
        code: Without the indentation of the block.
        title: The file name that the block shows, or None.
        note: What the comment before it says: a kind and its reason, or None.
    """

    page: str
    line: int
    language: str
    code: str
    title: str | None
    note: tuple[str, str] | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_executed(self) -> bool:
        """No comment says otherwise."""
        return self.note is None

    def session(self) -> list[tuple[str, list[str]]]:
        """What a person types in a console, continuations joined, each with the lines it prints."""
        found: list[tuple[str, list[str]]] = []
        for line in self.code.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif found and line:
                found[-1][1].append(line)
        return found

    def commands(self) -> list[str]:
        """What a person types in a console."""
        return [command for command, _ in self.session()]


def blocks(path: Path, root: Path) -> list[Block]:
    """The code blocks of a page, in order.

    Raises:
        ValueError: The comment before a block is none of the known ones.
    """
    text = path.read_text(encoding="utf-8")
    page = str(path.relative_to(root))
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("body")) + 1
        title = _TITLE.search(match["attributes"])
        found.append(
            Block(
                page,
                line,
                match["language"],
                textwrap.dedent(match["body"]),
                title[1] if title else None,
                _note(match["note"], f"{page}:{line}"),
            )
        )
    return found


def links(path: Path) -> list[str]:
    """The targets of the links of a page, code left out."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    return _LINK.findall(re.sub(r"`[^`\n]*`", "", text))


def spans(path: Path) -> list[str]:
    """The code within the lines of a page, blocks left out."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    return [" ".join(found.split()) for found in _SPAN.findall(text)]


def _note(text: str | None, place: str) -> tuple[str, str] | None:
    if text is None:
        return None
    kind, _, reason = text.partition(": ")
    if kind not in _NOTES or not reason:
        raise ValueError(f"{place}: expected a comment '{', '.join(_NOTES)}: why', got {text!r}")
    return kind, reason
