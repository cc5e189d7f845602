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
    from collections.abc import Sequence

    from examples.demo.case import Case

__all__ = ("PlainScreen", "RichScreen", "Screen", "screen")

_PLAIN_SECONDS = 2.0
_COLUMNS = ("", "who does what", "expected", "observed on the wire and in the server's log")


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
        rows = [_COLUMNS, *(_row(case) for case in cases)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS) - 1)]
        print(f"\n{title}")
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
            print("  ".join((*cells, row[-1])).rstrip())
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
        self._console.print(f"[bold cyan]▸[/] {text}")
        self._status.update(text)
        self._status.start()

    def progress(self, text: str) -> None:
        """Change the text beside the spinner."""
        self._status.update(text)

    def table(self, title: str, cases: Sequence[Case]) -> None:
        """Draw a table, wrong outcomes in red."""
        from rich.table import Table

        self._status.stop()
        table = Table(title=title, title_justify="left", title_style="bold")
        for column in _COLUMNS:
            table.add_column(column, overflow="fold")
        for case in cases:
            mark, *cells = _row(case)
            mark = "[green]✓[/]" if case.is_ok else "[bold red]✗[/]"
            table.add_row(mark, *cells, style="" if case.is_ok else "red")
        self._console.print(table)

    def verdict(self, text: str, *, is_ok: bool) -> None:
        """Print the last lines."""
        self._status.stop()
        colour, word = ("green", "OK") if is_ok else ("red", "FAILED")
        self._console.print(f"[bold {colour}]{word}[/]: {text}")


def screen() -> Screen:
    """The screen for where the output goes."""
    if not sys.stdout.isatty():
        return PlainScreen()
    try:
        return RichScreen()
    except ImportError:
        return PlainScreen()


def _row(case: Case) -> tuple[str, str, str, str]:
    return ("ok" if case.is_ok else "NO", case.name, case.expected, case.observed)
