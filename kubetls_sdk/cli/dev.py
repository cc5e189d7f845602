# SPDX-License-Identifier: Apache-2.0
"""`kubetls dev`: a trust domain on a developer's machine.

Rules:
    1. Not for production, and every help text says so: the root key is a plain file.
    2. The commands only translate; what they do is `kubetls_sdk.testing.DevelopmentDomain`.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kubetls_sdk.cli.duration import DURATION
from kubetls_sdk.exceptions import SpiffeIdError
from kubetls_sdk.spiffe_id import SpiffeId
from kubetls_sdk.testing.development_domain import DevelopmentDomain
from kubetls_sdk.testing.issue_registry import VolumeOrder
from kubetls_sdk.testing.keys import KEY_TYPES, KeyType
from kubetls_sdk.testing.layout import LAYOUTS, Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import timedelta

    from kubetls_sdk.svid import X509Svid

__all__ = ("dev",)

_WARNING = "For development only: the root key is a plain file in"
_ROTATIONS = ("svid", "root add", "root activate", "root retire")
_directory = click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
_pause = threading.Event()
_INTERRUPT_SECONDS = 0.1


@click.group()
def dev() -> None:
    """A trust domain for development and demonstrations, NOT for production.

    Its root key is an unprotected file: whoever reads it can be any workload. In a cluster, the
    platform issues identities.
    """


@dev.command()
@_directory
@click.option("--trust-domain", required=True, metavar="NAME", help="Such as example.org.")
@click.option("--key-type", type=click.Choice(KEY_TYPES), default="p256", show_default=True)
def init(directory: Path, trust_domain: str, key_type: KeyType) -> None:
    """Make a development trust domain in DIRECTORY, which must be new or empty."""
    try:
        made = DevelopmentDomain.create(directory, trust_domain, key_type=key_type)
    except SpiffeIdError as err:
        raise click.BadParameter(str(err), param_hint="--trust-domain") from err
    click.echo(f"made the trust domain {made.trust_domain} in {made.directory}")
    click.echo(f"{_WARNING} {made.directory}", err=True)


@dev.command()
@_directory
@click.option("--spiffe-id", metavar="ID", help="Such as spiffe://example.org/ns/shop/sa/web.")
@click.option("--path", metavar="PATH", help="In place of --spiffe-id: such as /ns/shop/sa/web.")
@click.option("--dns", "dns_names", multiple=True, metavar="NAME", help="A DNS name; repeatable.")
@click.option("--ttl", type=DURATION, default="1h", show_default=True, help="Lifetime: 90s, 24h.")
@click.option(
    "--volume",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The directory to write, as the kubelet would.",
)
@click.option("--layout", type=click.Choice(LAYOUTS), default="spiffe", show_default=True)
@click.option("--key-type", type=click.Choice(KEY_TYPES), default="p256", show_default=True)
@click.option(
    "--trust",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The development directory of a partner whose bundle is mounted too; repeatable.",
)
def issue(
    *,
    directory: Path,
    spiffe_id: str | None,
    path: str | None,
    dns_names: tuple[str, ...],
    ttl: timedelta,
    volume: Path,
    layout: Layout,
    key_type: KeyType,
    trust: tuple[Path, ...],
) -> None:
    """Issue an SVID of the trust domain in DIRECTORY and write it to a volume.

    The volume is remembered: `kubetls dev rotate DIRECTORY` renews it.
    """
    domain = DevelopmentDomain(directory)
    order = VolumeOrder(
        str(volume.resolve()),
        _path_of(domain, spiffe_id, path),
        dns_names=dns_names,
        ttl_seconds=ttl.total_seconds(),
        layout=layout,
        key_type=key_type,
        trust=tuple(str(partner.resolve()) for partner in trust),
    )
    _report({order.volume: domain.issue(order)})


@dev.command()
@_directory
@click.argument("what", nargs=-1, metavar="[svid | root add | root activate | root retire]")
@click.option("--every", type=DURATION, help="Go on, at this interval; only for svid.")
@click.option("--times", type=click.IntRange(min=1), help="End after so many; only with --every.")
def rotate(
    directory: Path, what: tuple[str, ...], every: timedelta | None, times: int | None
) -> None:
    """Rotate what the trust domain in DIRECTORY has issued, in all its volumes.

    \b
    svid           a new key and certificate for every volume (the default)
    root add       publish a new root beside the old one
    root activate  let the new root sign, and renew every volume
    root retire    withdraw the old root
    """  # noqa: D301 - click's mark for lines that are not to be joined
    rotation = " ".join(what) or "svid"
    if rotation not in _ROTATIONS:
        raise click.UsageError(f"expected one of {', '.join(_ROTATIONS)}; got {rotation!r}")
    if every is not None and rotation != "svid":
        raise click.UsageError(f"expected --every only with svid, got it with {rotation!r}")
    if times is not None and every is None:
        raise click.UsageError("expected --times only together with --every")
    domain = DevelopmentDomain(directory)
    if every is None:
        _rotate(domain, rotation)
    else:
        _repeat(lambda: _rotate(domain, rotation), every, times)


@dev.command()
@_directory
@click.option("--every", type=DURATION, default="1s", show_default=True, help="How often to look.")
def watch(directory: Path, every: timedelta) -> None:
    """Renew each volume of DIRECTORY at half of its SVID's lifetime, until interrupted."""
    domain = DevelopmentDomain(directory)
    click.echo(f"renewing the volumes of {domain.trust_domain}; end with Ctrl-C")
    _repeat(lambda: _report(domain.renew_due()), every)


@contextlib.contextmanager
def _interruption() -> Iterator[list[bool]]:
    """Ctrl-C ends a loop between two writes, never in the middle of one."""
    asked: list[bool] = []
    previous = signal.signal(signal.SIGINT, lambda *_: asked.append(True))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, previous)


def _repeat(action: Callable[[], None], every: timedelta, times: int | None = None) -> None:
    """Act now and after each interval, until interrupted or done `times` times."""
    with _interruption() as asked:
        for done in itertools.count(1):
            action()
            if asked or done == times:
                return
            end = time.monotonic() + every.total_seconds()
            while not asked and (left := end - time.monotonic()) > 0:
                _pause.wait(min(left, _INTERRUPT_SECONDS))
            if asked:
                return


def _path_of(domain: DevelopmentDomain, spiffe_id: str | None, path: str | None) -> str:
    if (spiffe_id is None) == (path is None):
        raise click.UsageError("expected one of --spiffe-id and --path")
    try:
        if spiffe_id is None:
            return SpiffeId(domain.trust_domain, path or "/").path
        parsed = SpiffeId.parse(spiffe_id)
    except SpiffeIdError as err:
        option = "--path" if spiffe_id is None else "--spiffe-id"
        raise click.BadParameter(str(err), param_hint=option) from err
    if parsed.trust_domain != domain.trust_domain:
        raise click.BadParameter(
            f"expected an ID of {str(domain.trust_domain)!r}, got {spiffe_id!r}",
            param_hint="--spiffe-id",
        )
    return parsed.path


def _rotate(domain: DevelopmentDomain, rotation: str) -> None:
    match rotation:
        case "svid":
            _report(domain.rotate_svids())
        case "root add":
            domain.add_root()
        case "root activate":
            _report(domain.activate_root())
        case "root retire":
            domain.retire_root()
    if rotation != "svid":
        roots = len(domain.ca.bundle)
        click.echo(f"{rotation}: {domain.trust_domain} publishes {roots} root{'s'[: roots > 1]}")


def _report(written: Mapping[str, X509Svid]) -> None:
    for volume, svid in written.items():
        until = f"{svid.not_after:%Y-%m-%dT%H:%M:%SZ}"
        click.echo(f"wrote {svid.spiffe_id} to {volume}, valid until {until}")
