# SPDX-License-Identifier: Apache-2.0
"""`kubetls image-check`: whom the programs of an image believe by default."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from kubetls_sdk.cli.inspect import printable
from kubetls_sdk.diagnosis.image import MAX_ENTRIES, survey
from kubetls_sdk.diagnosis.image.roots import UncountableError, fingerprints
from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kubetls_sdk.diagnosis.image import Store, Survey

__all__ = ("image_check",)


@click.command("image-check")
@click.argument("rootfs", type=click.Path(exists=True, file_okay=False, path_type=str))
@click.option(
    "--expect", multiple=True, metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=str),
    help="PEM file of authorities that may be there, such as the internal ones; repeatable.",
)  # fmt: skip
@click.option(
    "--max-entries", default=MAX_ENTRIES, show_default=True, type=click.IntRange(1),
    help="Look at no more files.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def image_check(
    ctx: click.Context, rootfs: str, *, expect: tuple[str, ...], max_entries: int, as_json: bool
) -> None:
    """Find the trust stores of an image, unpacked in ROOTFS, or of a virtual environment.

    Links are resolved as if ROOTFS were /; nothing outside it is read, and nothing in it is run.

    Exit status: 0 when there are no roots but expected ones, 1 when there are, or when not all
    could be looked at, 2 when ROOTFS or an expected file cannot be used.
    """
    found = survey(rootfs, expected=_expected(expect), max_entries=max_entries)
    if as_json:
        click.echo(json.dumps(_document(found), indent=2))
    else:
        for line in _lines(found):
            click.echo(printable(line))
    ctx.exit(0 if found.is_clean else 1)


def _expected(paths: Iterable[str]) -> frozenset[str]:
    expected: frozenset[str] = frozenset()
    for path in paths:
        with open(path, "rb") as file:
            found = _fingerprints(file.read())
        if not found:
            raise ConfigurationError(f"expected certificates in PEM, got none in {path!r}")
        expected |= found
    return expected


def _fingerprints(content: bytes) -> frozenset[str]:
    try:
        return fingerprints(content)
    except UncountableError:
        return frozenset()


def _document(found: Survey) -> dict[str, Any]:
    return {
        "format": 1,
        "root": found.root,
        "clean": found.is_clean,
        "stores": [_store_document(store) for store in found.stores],
        "programs": list(found.programs),
        "certifi_users": list(found.certifi_users),
        "problems": list(found.problems),
    }


def _store_document(store: Store) -> dict[str, Any]:
    return {
        "path": store.path,
        "kind": store.kind.name,
        "links": store.links,
        "roots": store.roots,
        "unexpected": store.unexpected,
        "problem": store.problem,
        "used_by": store.kind.used_by,
        "redirect": store.kind.redirect,
        "remaining": store.remaining,
    }


def _lines(found: Survey) -> Iterator[str]:
    for store in found.stores:
        yield f"{store.path}: {_roots(store)} ({store.kind.name})"
        yield f"  used by    {store.kind.used_by}"
        yield f"  redirect   {store.kind.redirect}"
        yield f"  internal   {_remaining(store)}"
        for link in store.links:
            yield f"  also at    {link}"
    if found.programs:
        yield f"programs: {', '.join(found.programs)}"
    if found.certifi_users:
        yield f"Python packages that require certifi: {', '.join(found.certifi_users)}"
    for problem in found.problems:
        yield f"not looked at: {problem}"
    dirty = sum(not store.is_clean for store in found.stores)
    yield f"{len(found.stores)} trust stores, {dirty} with roots that are not expected"


def _remaining(store: Store) -> str:
    """What the annotation `trust-store: internal` makes of a store."""
    return f"still believed by {store.remaining}" if store.remaining else "replaced"


def _roots(store: Store) -> str:
    if store.roots is None:
        return f"an unknown number of roots: {store.problem}"
    if store.unexpected == store.roots:
        return f"{store.roots} roots"
    return f"{store.roots} roots, {store.unexpected} not expected"
