# SPDX-License-Identifier: Apache-2.0
"""`zones`: who trusts whom, as text or as a picture."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kubetls_sdk.exceptions import ConfigurationError
from webhook.cli.options import kubeconfig, namespace_option, read_platform
from webhook.config import PlatformConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from webhook.api.client import Api
    from webhook.zones.picture import Picture

__all__ = ("zones",)

_FORMATS = ("text", "mermaid", "svg", "json")


@click.command(short_help="Show zones of trust, and who can reach whom.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A configuration; without it, the cluster's own, and what the cluster has.",
)
@click.option("--live", is_flag=True, help="Hold the file of --config against the cluster.")
@click.option("--format", "form", type=click.Choice(_FORMATS), default="text", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write here.")
@namespace_option
def zones(
    config: Path | None, form: str, output: Path | None, namespace: str, *, live: bool
) -> None:
    """Show zones of trust, partners and namespaces, and who can reach whom."""
    text = _writer(form)(asyncio.run(_picture(config, namespace, live=live)))
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


async def _picture(config: Path | None, namespace: str, *, live: bool) -> Picture:
    from webhook.zones.picture import Picture

    now = datetime.now(UTC)
    if config is not None and not live:
        return Picture.of(read_platform(config), now=now)
    from webhook.api.client import Api
    from webhook.zones.cluster_state import read_state

    async with await Api.connect(kubeconfig()) as api:
        found = read_platform(config) if config else await _published(api, namespace)
        return Picture.of(found, await read_state(api), now=now)


async def _published(api: Api, namespace: str) -> PlatformConfig:
    from webhook.api.errors import NotFoundError
    from webhook.api.resources import CONFIG_MAPS
    from webhook.names import CONFIGURATION_KEY, CONFIGURATION_MAP

    place = f"ConfigMap {namespace}/{CONFIGURATION_MAP}"
    try:
        body = await api.get(CONFIG_MAPS, CONFIGURATION_MAP, namespace=namespace)
    except NotFoundError as err:
        advice = "KubeTLS is not installed there (--namespace), or give --config FILE"
        raise ConfigurationError(f"{place}: expected it, got none: {advice}") from err
    text = (body.get("data") or {}).get(CONFIGURATION_KEY)
    if not isinstance(text, str):
        raise ConfigurationError(f"{place}: expected a key {CONFIGURATION_KEY!r}")
    return PlatformConfig.parse(text, file=f"{place} {CONFIGURATION_KEY}")


def _writer(form: str) -> Callable[[Picture], str]:
    from webhook.zones.document import to_json
    from webhook.zones.mermaid import to_mermaid
    from webhook.zones.svg import to_svg
    from webhook.zones.text import to_text

    return {"text": to_text, "mermaid": to_mermaid, "svg": to_svg, "json": to_json}[form]
