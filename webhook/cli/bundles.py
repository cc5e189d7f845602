# SPDX-License-Identifier: Apache-2.0
"""`bundles`: the zones' bundle endpoint, which runs in pods of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from webhook.cli.options import PORT, config_option, kubeconfig, log_level
from webhook.config_document import parse_duration

__all__ = ("bundles",)

_FOLDER = click.Path(path_type=Path)


@click.command(short_help="Serve each zone's trust bundle to partners.")
@config_option
@click.option(
    "--web-certificate", type=_FOLDER, help="Serve https_web: folder of tls.crt and tls.key."
)
@click.option("--web-port", type=PORT, default=8443, show_default=True, help="Of https_web.")
@click.option("--spiffe-volume", type=_FOLDER, help="Serve https_spiffe: folder of our own SVID.")
@click.option("--spiffe-port", type=PORT, default=8444, show_default=True, help="Of https_spiffe.")
@click.option(
    "--max-stale",
    default="1h",
    show_default=True,
    help="How long to serve what the API server did not confirm.",
)
@click.option(
    "--sequence-base",
    type=click.IntRange(0, 2**53),
    default=0,
    show_default=True,
    help="Added to sequence numbers; raised after the API server was restored from a backup.",
)
@click.option("--host", default="0.0.0.0", show_default=True, help="Listen here.")  # noqa: S104
@click.option(
    "--status-port", type=PORT, default=8080, show_default=True, help="Probes and metrics."
)
@log_level
def bundles(max_stale: str, **settings: Any) -> None:
    """Serve each zone's trust bundle to partners, as a SPIFFE bundle endpoint."""
    from webhook.endpoint.run import EndpointSettings, run

    bound = parse_duration(max_stale)
    asyncio.run(run(EndpointSettings(kubeconfig=kubeconfig(), max_stale=bound, **settings)))
