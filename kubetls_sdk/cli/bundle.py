# SPDX-License-Identifier: Apache-2.0
"""`kubetls bundle`: show, fetch, compare and publish trust bundles.

Rules:
    1. Exit status 0: shown, the same, or written; 1: it differs, and nothing was written; 2: an
       error.
    2. Nothing that was fetched is written over what is trusted before somebody has accepted it.
    3. The commands only translate; what they do is `kubetls_sdk.federation`.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kubetls_sdk.cli.bundle_report import (
    bundle_fields,
    bundle_lines,
    difference_fields,
    difference_lines,
)
from kubetls_sdk.diagnosis import gather
from kubetls_sdk.exceptions import BundleError, ConfigurationError, SpiffeIdError
from kubetls_sdk.federation.bundle_document import parse_bundle, to_jwks
from kubetls_sdk.federation.difference import BundleDifference, fingerprint
from kubetls_sdk.federation.fetch import FetchError, fetch_bundle
from kubetls_sdk.federation.output_file import write_file
from kubetls_sdk.federation.partner import Endpoint, Profile
from kubetls_sdk.spiffe_id import SpiffeId, TrustDomain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kubetls_sdk.bundle import TrustBundle
    from kubetls_sdk.federation.listener import BundleListener

__all__ = ("bundle",)

_file = click.Path(path_type=Path)
_directory = click.Path(path_type=str)
_FORMS = click.Choice(["pem", "jwks"])


def _parsed(parse: Callable[[str], Any]) -> Callable[..., Any]:
    def convert(_context: click.Context, _option: click.Parameter, value: str | None) -> Any:
        """None: the option was not given."""
        try:
            return None if value is None else parse(value)
        except SpiffeIdError as err:
            raise click.BadParameter(str(err)) from err

    return convert


_trust_domain = click.option(
    "--trust-domain",
    required=True,
    metavar="NAME",
    callback=_parsed(TrustDomain.parse),
    help="Whose bundle it is; no document says so itself.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group()
def bundle() -> None:
    """Show, fetch, compare and publish trust bundles."""


@bundle.command()
@click.argument("file", required=False, type=_file)
@click.option(
    "--trust-domain",
    metavar="NAME",
    callback=_parsed(TrustDomain.parse),
    help="Whose bundle; that of the SVID by default. Required with FILE.",
)
@click.option("--volume", type=_directory, help="Where the credentials are mounted.")
@click.option("--format", "form", type=_FORMS, help="Export it, to give it to a partner.")
@click.option("--refresh-hint", type=click.IntRange(min=1), help="Seconds; for --format jwks.")
@_as_json
def show(
    *,
    file: Path | None,
    trust_domain: TrustDomain | None,
    volume: str | None,
    form: str | None,
    refresh_hint: int | None,
    as_json: bool,
) -> None:
    """Show or export a bundle: of FILE (PEM or JWKS), or ours from the mounted volume."""
    if file is not None and trust_domain is None:
        raise click.UsageError("expected --trust-domain with a file: it does not say whose it is")
    if file is not None and trust_domain is not None:
        found = _read(file, trust_domain)
    else:
        found = _mounted(volume, trust_domain)
    if form is not None:
        sys.stdout.buffer.write(_exported(found, form, refresh_hint))
        sys.stdout.buffer.flush()
    else:
        _print(bundle_fields(found), bundle_lines(found), as_json=as_json)


@bundle.command()
@click.argument("url")
@_trust_domain
@click.option(
    "--profile",
    required=True,
    type=click.Choice([each.value for each in Profile]),
    help="Of the endpoint.",
)
@click.option("--ca-file", type=_file, help="Roots in place of the web's, for https_web.")
@click.option(
    "--spiffe-id",
    metavar="ID",
    callback=_parsed(SpiffeId.parse),
    help="Of the endpoint's server, for https_spiffe.",
)
@click.option("--bundle", "known", type=_file, help="Of the trust domain of --spiffe-id.")
@click.option("--expect", multiple=True, metavar="SHA256", help="Exactly these; repeatable.")
@click.option("--out", type=_file, help="The file to write or update.")
@click.option("--accept", is_flag=True, help="Write it though it differs from what is there.")
@click.option("--format", "form", type=_FORMS, default="jwks", show_default=True, help="Of --out.")
@click.option("--timeout", type=click.FloatRange(0.1, 60), default=10.0, show_default=True)
@_as_json
def fetch(
    url: str,
    trust_domain: TrustDomain,
    known: Path | None,
    timeout: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Fetch a partner's bundle from its endpoint at URL, and show what it would change.

    With --out, it is compared with the file, and written only with --accept, or when --expect
    names exactly its authorities; the same ones need neither.
    """
    names = ("profile", "ca_file", "spiffe_id")
    endpoint = Endpoint(url=url, **{name: options[name] for name in names})
    found = _fetched(trust_domain, endpoint, known, timeout)
    document = {**bundle_fields(found), "written": None}
    lines = list(bundle_lines(found))
    _check_expected(found, options["expect"])
    out, is_written = options["out"], True
    if out is not None:
        before = _read(out, trust_domain) if out.exists() else None
        _check_sequence(before, found)
        is_written = _store(out, before, found, options)
        document |= {"written": str(out) if is_written else None}
        lines += _change(before, found, document)
        lines.append(f"written to {out}" if is_written else "not written: it needs --accept")
    _print(document, lines, as_json=as_json)
    sys.exit(0 if is_written else 1)


@bundle.command()
@click.argument("old", type=_file)
@click.argument("new", type=_file)
@_trust_domain
@_as_json
def diff(old: Path, new: Path, trust_domain: TrustDomain, as_json: bool) -> None:
    """Show what the bundle file NEW adds to OLD and removes from it, by fingerprint."""
    found = BundleDifference.between(_read(old, trust_domain), _read(new, trust_domain))
    document = {"format": 1, "trust_domain": str(trust_domain), **difference_fields(found)}
    _print(document, difference_lines(found), as_json=as_json)
    sys.exit(0 if found.is_empty else 1)


@bundle.command()
@click.option(
    "--profile",
    required=True,
    type=click.Choice([each.value for each in Profile]),
    help="To serve.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8443, show_default=True)
@click.option("--host", default="0.0.0.0", show_default=True)  # noqa: S104 - for partners
@click.option("--path", default="/", show_default=True, help="The only path that is answered.")
@click.option("--volume", type=_directory, help="Where the credentials are mounted.")
@click.option("--certificate", help="PEM chain, for https_web; followed.")
@click.option("--key", help="Its PEM key; followed.")
@click.option("--refresh-hint", type=click.IntRange(min=1), default=300, show_default=True)
@click.option("--ready-timeout", type=float, default=30.0, show_default=True)
def serve(profile: str, volume: str | None, ready_timeout: float, **options: Any) -> None:
    """Publish our own bundle at an endpoint of its own, until interrupted.

    Nobody has to authenticate, and nothing but public keys is served.
    """
    from kubetls_sdk.federation.listener import BundleListener
    from kubetls_sdk.volume_source import VolumeSource

    if (options["certificate"] is None) != (profile == Profile.SPIFFE):
        raise click.UsageError("expected --certificate and --key with https_web, and only there")
    with VolumeSource(volume, ready_timeout=ready_timeout) as source:
        listener = BundleListener(source, **options)
        domain = source.snapshot.trust_domain
        asyncio.run(_serve(listener, f"{options['host']}", options["path"], str(domain)))


async def _serve(listener: BundleListener, host: str, path: str, domain: str) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    await listener.start()
    place = f"https://{host}:{listener.bound_port}{path}"
    click.echo(f"bundle of {domain} ({listener.profile}) running on {place}", err=True)
    await ended.wait()
    await listener.stop()


def _read(path: Path, trust_domain: TrustDomain) -> TrustBundle:
    try:
        return parse_bundle(trust_domain, path.read_bytes())
    except BundleError as err:
        raise BundleError(err.message, path=path) from err


def _mounted(directory: str | None, trust_domain: TrustDomain | None) -> TrustBundle:
    evidence = gather(directory)
    domain = trust_domain or evidence.trust_domain
    found = None if domain is None else evidence.bundles.get(domain)
    if found is None:
        whose = "of the SVID" if domain is None else f"of {str(domain)!r}"
        raise ConfigurationError(f"{evidence.directory}: expected a usable bundle {whose}")
    return found


def _exported(found: TrustBundle, form: str, refresh_hint: int | None = None) -> bytes:
    if form == "pem":
        return found.to_pem()
    return to_jwks(found, sequence=found.sequence, refresh_hint=refresh_hint or found.refresh_hint)


def _fetched(
    trust_domain: TrustDomain, endpoint: Endpoint, known: Path | None, timeout: float
) -> TrustBundle:
    server = endpoint.spiffe_id
    if (known is None) != (server is None):
        raise click.UsageError("expected --bundle with https_spiffe, and only there")
    of_server = None if known is None or server is None else _read(known, server.trust_domain)
    try:
        return asyncio.run(
            fetch_bundle(trust_domain, endpoint, known=of_server, timeout_seconds=timeout)
        ).bundle
    except FetchError as err:
        raise ConfigurationError(f"{endpoint.url}: {err}") from err


def _check_expected(found: TrustBundle, expected: Iterable[str]) -> None:
    wanted = {each.replace(":", "").lower() for each in expected}
    differing = wanted ^ set(map(fingerprint, found.authorities)) if wanted else set()
    for each in sorted(differing & wanted):
        raise BundleError(f"expected the authority sha256 {each}, which the bundle does not have")
    for each in sorted(differing):
        raise BundleError(f"expected only the authorities of --expect, got sha256 {each}")


def _check_sequence(before: TrustBundle | None, found: TrustBundle) -> None:
    if before is None or before.sequence is None or found.sequence is None:
        return
    if found.sequence < before.sequence and before.authorities != found.authorities:
        raise BundleError(
            f"expected a sequence of {before.sequence} or more, got {found.sequence}: it went back"
        )


def _store(
    out: Path, before: TrustBundle | None, found: TrustBundle, options: dict[str, Any]
) -> bool:
    is_same = before is not None and BundleDifference.between(before, found).is_empty
    is_expected = options["expect"] and not found.jwt_authorities  # It names certificates only.
    if not (is_same or options["accept"] or is_expected):
        return False
    write_file(out, _exported(found, options["form"]))
    return True


def _change(
    before: TrustBundle | None, found: TrustBundle, document: dict[str, Any]
) -> Iterable[str]:
    if before is None:
        document["difference"] = None
        return ["nothing was there before"]
    difference = BundleDifference.between(before, found)
    document["difference"] = difference_fields(difference)
    return ["", *difference_lines(difference)]


def _print(document: dict[str, Any], lines: Iterable[str], *, as_json: bool) -> None:
    click.echo(json.dumps(document, indent=2) if as_json else "\n".join(lines))
