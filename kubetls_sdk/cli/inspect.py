# SPDX-License-Identifier: Apache-2.0
"""`kubetls inspect`: what is mounted, for people and as JSON.

Rules:
    1. No private key and no PEM is ever printed.
    2. Text out of a file reaches a terminal only with its control characters escaped.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from kubetls_sdk.diagnosis import describe, gather
from kubetls_sdk.exceptions import VolumeError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("inspect",)

_UNUSABLE, _NO_VOLUME = 1, 2


@click.command()
@click.argument("directory", required=False, type=click.Path(path_type=str))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def inspect(ctx: click.Context, directory: str | None, *, as_json: bool) -> None:
    """Show what is mounted in DIRECTORY, or where KUBETLS_DIR or the platform's default points.

    Exit status: 0 when an application could start with it, 1 when it could not, 2 when there is
    no volume. Never prints a private key.
    """
    evidence = gather(directory)
    document = describe(evidence)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        for line in _lines(document):
            click.echo(printable(line))
    if isinstance(evidence.content, VolumeError):
        ctx.exit(_NO_VOLUME)
    ctx.exit(0 if document["usable"] else _UNUSABLE)


def printable(text: str) -> str:
    """Escape what could drive a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def lasting(seconds: int) -> str:
    """Say a length of time in its two largest units: `23 h 12 min`."""
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    rest = abs(seconds)
    parts: list[str] = []
    for name, size in units:
        count, rest = divmod(rest, size)
        if count or parts or name == "s":
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


def _lines(document: dict[str, Any]) -> Iterator[str]:
    yield f"directory     {document['directory']}"
    yield f"layout        {document['layout'] or 'none that is known'}"
    yield f"generation    {document['generation'] or 'none: no files linked through ..data'}"
    if document["svid"] is not None:
        yield from _svid_lines(document["svid"])
    elif document["spiffe_id"] is not None:
        yield f"identity      {document['spiffe_id']} (not usable)"
    for bundle in document["bundles"]:
        yield from _bundle_lines(bundle)
    for file in document["files"]:
        size = "unreadable" if file["bytes"] is None else f"{file['bytes']} bytes"
        written = file["modified_at"] or "unknown"
        yield f"file          {file['name']}: {file['role']}, {size}, written {written}"
    for error in document["errors"]:
        yield f"error         {error['path']}: {error['message']}"


def _svid_lines(svid: dict[str, Any]) -> Iterator[str]:
    leaf = svid["chain"][0]
    yield f"identity      {svid['spiffe_id']}"
    yield f"DNS names     {', '.join(svid['dns_names']) or 'none'}"
    yield f"issuer        {leaf['issuer']}"
    yield f"serial        {leaf['serial']}"
    yield f"key           {svid['key_type']}"
    yield f"chain         {len(svid['chain'])} certificate{'s'[: len(svid['chain']) > 1]}"
    yield f"valid         {svid['not_before']} to {svid['not_after']} ({_validity(svid)})"


def _validity(svid: dict[str, Any]) -> str:
    remaining = svid["seconds_remaining"]
    if svid["is_valid"]:
        return f"{lasting(remaining)} left"
    return f"expired {lasting(remaining)} ago" if remaining < 0 else "not yet valid"


def _bundle_lines(bundle: dict[str, Any]) -> Iterator[str]:
    own = " (own)" if bundle["is_own"] else ""
    sequence = "" if bundle["sequence"] is None else f", sequence {bundle['sequence']}"
    count = len(bundle["authorities"]) if bundle["is_usable"] else "unusable"
    yield f"bundle        {bundle['trust_domain']}{own}: {count}{sequence}"
    for each in bundle["authorities"]:
        yield f"  authority   {each['subject']}, until {each['not_after']}"
        yield f"              sha256 {each['sha256']}"
