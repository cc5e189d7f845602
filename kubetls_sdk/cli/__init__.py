# SPDX-License-Identifier: Apache-2.0
"""The command `kubetls`.

Rules:
    1. A user sees one clean line for each error, never a traceback; exit status 2.
    2. A command loads what it needs and no more: `kubetls --help` loads no server.
"""

from __future__ import annotations

import sys

__all__ = ("main",)


def main() -> None:
    """Run the command line; the entry point of the installed command."""
    try:
        import click  # noqa: F401 - only to say what is missing
    except ModuleNotFoundError:
        message = "kubetls: the command line needs click: pip install 'kubetls-sdk[cli]'"
        print(message, file=sys.stderr)
        sys.exit(2)
    from .command_line import kubetls

    kubetls(prog_name="kubetls")
