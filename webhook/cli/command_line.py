# SPDX-License-Identifier: Apache-2.0
"""The group of commands, and what all of them share."""

from __future__ import annotations

import logging
import sys

import click

from kubetls_sdk.exceptions import KubeTLSError
from webhook.cli.bundles import bundles
from webhook.cli.ca import ca
from webhook.cli.inspection import policy, preflight
from webhook.cli.parts import inject, node, secrets, sign
from webhook.cli.zones import zones

__all__ = ("main",)

_SETTINGS = {"auto_envvar_prefix": "KUBETLS", "help_option_names": ["-h", "--help"]}
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@click.group(context_settings=_SETTINGS)
def webhook() -> None:
    """Give each pod its key, certificate and trust bundle."""


for command in (inject, sign, secrets, node, bundles, ca, policy, preflight, zones):
    webhook.add_command(command)


def main() -> None:
    """Run one command."""
    logging.captureWarnings(capture=True)
    logging.basicConfig(level=logging.INFO, format=_FORMAT, stream=sys.stderr)
    try:
        webhook(prog_name="python -m webhook")
    except (KubeTLSError, OSError) as err:
        click.echo(f"Error: {err}", err=True)
        sys.exit(2)
