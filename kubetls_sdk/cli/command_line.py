# SPDX-License-Identifier: Apache-2.0
"""The group of all commands, each loaded when it is called."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

import click

import kubetls_sdk
from kubetls_sdk.exceptions import KubeTLSError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("LazyCommand", "LazyGroup", "kubetls")


class LazyCommand(NamedTuple):
    """A command that is not loaded yet.

    Attributes:
        target: `module:attribute`.
        summary: Its line in the list of commands.
        extra: The extra of the distribution that brings what it imports.
    """

    target: str
    summary: str
    extra: str = "cli"


COMMANDS = {
    "serve": LazyCommand(
        "kubetls_sdk.cli.serve:serve", "Serve an ASGI application over mutual TLS.", "asgi"
    ),
    "inspect": LazyCommand("kubetls_sdk.cli.inspect:inspect", "Show what is mounted."),
    "doctor": LazyCommand("kubetls_sdk.cli.doctor:doctor", "Find what is wrong with a volume."),
    "image-check": LazyCommand(
        "kubetls_sdk.cli.image_check:image_check", "Find the trust stores of an image."
    ),
    "policy": LazyCommand("kubetls_sdk.cli.policy:policy", "Check and try out policies."),
    "bundle": LazyCommand(
        "kubetls_sdk.cli.bundle:bundle", "Show, fetch, compare and publish trust bundles."
    ),
    "ca": LazyCommand("kubetls_sdk.cli.ca:ca", "Sign for partners, under constraints."),
    "dev": LazyCommand(
        "kubetls_sdk.cli.dev:dev", "A trust domain for development, not for production."
    ),
}


class CommandFailure(click.ClickException):
    """An expected error: one line on standard error, exit status 2."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class LazyGroup(click.Group):
    """A group whose commands are imported when they run, and whose errors are one line.

    Args:
        lazy_commands: The commands by name, in the order in which they are listed.
    """

    def __init__(
        self, *args: Any, lazy_commands: Mapping[str, LazyCommand] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = dict(lazy_commands or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, without loading a command."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command."""
        lazy = self._lazy.get(cmd_name)
        if lazy is None:
            return None
        module, _, attribute = lazy.target.partition(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as err:
            if (err.name or "").startswith("kubetls_sdk"):
                raise
            raise CommandFailure(
                f"'{ctx.info_name} {cmd_name}' needs the module {err.name!r}: "
                f"pip install 'kubetls-sdk[{lazy.extra}]'"
            ) from err
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, without loading one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in self._lazy.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # The reader of our output went away; click ends quietly.
        except KubeTLSError as err:
            raise CommandFailure(str(err)) from err
        except OSError as err:
            raise CommandFailure(_os_error_text(err)) from err


def _os_error_text(err: OSError) -> str:
    if err.strerror is None:
        return str(err) or type(err).__name__
    return f"{err.filename}: {err.strerror}" if err.filename is not None else err.strerror


@click.group(
    cls=LazyGroup,
    lazy_commands=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(kubetls_sdk.__version__, prog_name="kubetls")
def kubetls() -> None:
    """Mutual TLS with SPIFFE identities inside Python applications."""
