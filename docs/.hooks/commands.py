# SPDX-License-Identifier: Apache-2.0
"""Writes the reference of a command line from the program itself, so that it cannot be another.

A page asks for it by the comment `<!-- commands of module:group as "python -m name" -->`.
"""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

_ASKED = re.compile(r'^<!-- commands of ([\w.]+):(\w+) as "([^"]+)" -->$', re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the commands in the comment's place."""
    return _ASKED.sub(lambda asked: "\n".join(_asked(*asked.groups())), markdown)


def _asked(module: str, name: str, program: str) -> Iterator[str]:
    group = getattr(importlib.import_module(module), name)
    for each in group.commands.values():
        yield from _command(each, program, 2)


def _command(command: click.Command, before: str, level: int) -> Iterator[str]:
    path = f"{before} {command.name}"
    arguments = [p.make_metavar(_context(command)) for p in command.params if _is_argument(p)]
    yield from ["", f"{'#' * level} {path}", "", command.help or "", ""]
    inside = command.commands.values() if isinstance(command, click.Group) else ()
    yield f"`{' '.join([path, '[OPTIONS]', *arguments, *(['COMMAND'] if inside else [])])}`"
    yield from _options(command)
    for each in inside:
        yield from _command(each, path, level + 1)


def _options(command: click.Command) -> Iterator[str]:
    options = [each for each in command.params if isinstance(each, click.Option)]
    if options:
        yield from ["", "| option | default | meaning |", "|---|---|---|"]
    for each in options:
        names = ", ".join(f"`{name}`" for name in [*each.opts, *each.secondary_opts])
        yield f"| {names} | {_default(each)} | {_meaning(each)} |"


def _default(option: click.Option) -> str:
    if option.required:
        return "required"
    if isinstance(option.default, bool) and option.secondary_opts:
        return f"`{(option.opts if option.default else option.secondary_opts)[0]}`"
    return f"`{option.default}`" if option.show_default and option.default is not None else "none"


def _meaning(option: click.Option) -> str:
    choices = option.type.choices if isinstance(option.type, click.Choice) else ()
    words = [option.help or "", " or ".join(f"`{each}`" for each in choices)]
    return " ".join(word for word in words if word)


def _is_argument(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Argument)


def _context(command: click.Command) -> click.Context:
    return click.Context(command)
