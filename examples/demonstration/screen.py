# SPDX-License-Identifier: Apache-2.0
"""What a person sees while the demo runs: steps, progress and tables.

Rules:
    1. On a terminal with `rich`: colours and a line that moves. Otherwise plain text, one line a
       step, for CI and files.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from examples.demonstration.case import Case

__all__ = ("PlainScreen", "RichScreen", "Screen", "screen")

_PLAIN_SECONDS = 2.0
_COLUMNS = ("", "who does what", "outcome, by the wire and the server's log")


class Screen(Protocol):
    """Shows what goes on."""

    def step(self, text: str) -> None:
        """Say what begins now."""
        ...

    def progress(self, text: str) -> None:
        """Say how far it is; replaces what was said before."""
        ...

    def table(self, title: str, cases: Sequence[Case]) -> None:
        """Show what came of some cases."""
        ...

    def facts(self, title: str, facts: Mapping[str, str]) -> None:
        """Show what was measured."""
        ...

    def verdict(self, text: str, *, is_ok: bool) -> None:
        """Say what it all comes to."""
        ...


class PlainScreen:
    """Text without colours or movement."""

    def __init__(self) -> None:
        self._said_at = 0.0

    def step(self, text: str) -> None:
        """Print a line."""
        print(f"==> {text}", flush=True)
        self._said_at = time.monotonic()

    def progress(self, text: str) -> None:
        """Print a line now and then."""
        if time.monotonic() - self._said_at >= _PLAIN_SECONDS:
            print(f"    {text}", flush=True)
            self._said_at = time.monotonic()

    def table(self, title: str, cases: Sequence[Case]) -> None:
        """Print aligned columns."""
        self._rows(title, [_COLUMNS, *(("ok" if c.is_ok else "NO", *_cells(c)) for c in cases)])

    def facts(self, title: str, facts: Mapping[str, str]) -> None:
        """Print aligned columns."""
        self._rows(title, [("", *fact) for fact in facts.items()])

    def _rows(self, title: str, rows: Sequence[tuple[str, str, str]]) -> None:
        width = max(len(name) for _, name, _ in rows)
        print(f"\n{title}")
        for mark, name, outcome in rows:
            print(f"  {mark:<3} {name:<{width}}  {outcome}".rstrip())
        print(flush=True)

    def verdict(self, text: str, *, is_ok: bool) -> None:
        """Print the last lines."""
        print(f"{'OK' if is_ok else 'FAILED'}: {text}", flush=True)


class RichScreen:
    """A terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False)
        self._status = self._console.status("")

    def step(self, text: str) -> None:
        """Print a line, and go on with a spinner."""
        self._console.print(f"[bold cyan]▸[/] {_plain(text)}")
        self._status.update(_plain(text))
        self._status.start()

    def progress(self, text: str) -> None:
        """Change the text beside the spinner."""
        self._status.update(_plain(text))

    def table(self, title: str, cases: Sequence[Case]) -> None:
        """Draw a table, wrong outcomes in red."""
        table = self._table(title)
        for column in _COLUMNS:
            table.add_column(column, overflow="fold")
        for case in cases:
            mark = "[green]✓[/]" if case.is_ok else "[bold]✗[/]"
            table.add_row(mark, *map(_plain, _cells(case)), style="" if case.is_ok else "red")
        self._console.print(table)

    def facts(self, title: str, facts: Mapping[str, str]) -> None:
        """Draw a table."""
        table = self._table(title, show_header=False)
        for name, value in facts.items():
            table.add_row(_plain(name), _plain(value))
        self._console.print(table)

    def _table(self, title: str, *, show_header: bool = True) -> Table:
        from rich import box, table

        self._status.stop()
        return table.Table(
            title=f"\n{title}",
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            show_header=show_header,
        )

    def verdict(self, text: str, *, is_ok: bool) -> None:
        """Print the last lines."""
        self._status.stop()
        colour, word = ("green", "OK") if is_ok else ("red", "FAILED")
        self._console.print(f"[bold {colour}]{word}[/]: {_plain(text)}")


def screen() -> Screen:
    """The screen for where the output goes."""
    if not sys.stdout.isatty():
        return PlainScreen()
    try:
        return RichScreen()
    except ImportError:
        return PlainScreen()


def _cells(case: Case) -> tuple[str, str]:
    wrong = "" if case.is_ok else f"; expected: {case.expected}"
    return case.name, f"{case.observed}{wrong}"


def _plain(text: str) -> str:
    """Text in which nothing is a mark for rich."""
    return text.replace("[", r"\[")
