# SPDX-License-Identifier: Apache-2.0
"""`ca`: orders about a zone's certificate authorities; the signer's leader carries them out."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from webhook.cli.options import config_option, kubeconfig, namespace_option, read_platform
from webhook.config_document import parse_duration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    from webhook.trust.ca_status import PoolStatus
    from webhook.trust.rotation import CaOrders

__all__ = ("ca",)

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_KEY_TYPE = click.Choice(["p256", "p384"])


@click.group()
@config_option
@namespace_option
@click.option("--zone", default="default", show_default=True, help="Which zone of trust.")
@click.pass_context
def ca(context: click.Context, /, **settings: Any) -> None:
    """Create, import, rotate and show the authorities of a zone."""
    context.obj = settings


@ca.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def status(settings: dict[str, Any], *, as_json: bool) -> None:
    """Show the authorities, their states, and what is waited for."""
    _order(settings, lambda orders: orders.status(), as_json=as_json)


@ca.command()
@click.option("--key-type", type=_KEY_TYPE, default="p256", show_default=True)
@click.option("--validity", default="3650d", show_default=True, help="Such as 3650d.")
@click.option("--force-propagation", metavar="WORD", help="Let it sign at once.")
@click.pass_obj
def create(settings: dict[str, Any], /, key_type: Any, validity: str, **force: str | None) -> None:
    """Make the first authority of a zone."""
    lasting = parse_duration(validity)
    _order(settings, lambda orders: orders.create(key_type=key_type, validity=lasting, **force))


@ca.command("import")
@click.option("--certificate", type=_FILE, required=True, help="It, then what is between; PEM.")
@click.option("--key", type=_FILE, required=True, help="Its unencrypted key, PEM.")
@click.option("--anchor", type=_FILE, help="What pods trust, PEM; its own root otherwise.")
@click.pass_obj
def import_(settings: dict[str, Any], certificate: Path, key: Path, anchor: Path | None) -> None:
    """Take in an authority, such as an intermediate under a corporate root."""
    texts = [path.read_bytes() for path in (certificate, key, anchor) if path is not None]
    _order(settings, lambda orders: orders.import_authority(*texts))


@ca.command()
@click.option("--force-propagation", metavar="WORD", help="Do not wait until pods trust it.")
@click.option("--key-type", type=_KEY_TYPE, help="Of the new root; as before otherwise.")
@click.option("--validity", help="Of the new root, such as 3650d; as before otherwise.")
@click.option("--own-root", is_flag=True, help="A root of ours after an imported authority.")
@click.pass_obj
def rotate(settings: dict[str, Any], /, validity: str | None, **wanted: Any) -> None:
    """Replace the authority that signs, with overlap."""
    lasting: timedelta | None = parse_duration(validity) if validity else None
    _order(settings, lambda orders: orders.rotate(validity=lasting, **wanted))


@ca.command()
@click.pass_obj
def abort(settings: dict[str, Any]) -> None:
    """Give up a rotation whose successor does not sign yet."""
    _order(settings, lambda orders: orders.abort())


@ca.command("take-back")
@click.pass_obj
def take_back(settings: dict[str, Any]) -> None:
    """Let the authority that was retired last sign again."""
    _order(settings, lambda orders: orders.take_back())


@ca.command()
@click.argument("entry_id", metavar="ID")
@click.option("--force", metavar="WORD", help="Although leaves under it may be valid.")
@click.pass_obj
def withdraw(settings: dict[str, Any], entry_id: str, force: str | None) -> None:
    """Take a retired authority out of the bundle before its time."""
    _order(settings, lambda orders: orders.withdraw(entry_id, force=force))


def _order(
    settings: dict[str, Any],
    give: Callable[[CaOrders], Awaitable[PoolStatus]],
    *,
    as_json: bool = False,
) -> None:
    found = asyncio.run(_given(settings, give))
    sys.stdout.write(found.to_json() if as_json else found.to_text(datetime.now(UTC)))


async def _given(
    settings: dict[str, Any], give: Callable[[CaOrders], Awaitable[PoolStatus]]
) -> PoolStatus:
    from webhook.api.client import Api
    from webhook.trust.rotation import CaOrders

    config = read_platform(settings["config"])
    async with await Api.connect(kubeconfig()) as api:
        orders = CaOrders(api, config, settings["zone"], namespace=settings["namespace"])
        return await give(orders)
