# SPDX-License-Identifier: Apache-2.0
"""`kubetls doctor`: what is wrong with a volume, and what to do about it."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from kubetls_sdk.cli.inspect import printable
from kubetls_sdk.diagnosis import (
    FAULTS,
    check_image,
    diagnose,
    gather,
    mounted_authorities,
)
from kubetls_sdk.diagnosis.image import survey
from kubetls_sdk.diagnosis.trust_store import ANNOTATION
from kubetls_sdk.exceptions import SpiffeIdError
from kubetls_sdk.spiffe_id import TrustDomain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kubetls_sdk.diagnosis import Evidence, Finding

__all__ = ("doctor",)


class _TrustDomainName(click.ParamType[TrustDomain]):
    name = "trust domain"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> TrustDomain:
        """Parse the value of an option."""
        if isinstance(value, TrustDomain):
            return value
        try:
            return TrustDomain.parse(value)
        except SpiffeIdError as err:
            self.fail(str(err), param, ctx)


def _list_faults(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    for name, fault in FAULTS.items():
        click.echo(f"{name:22} {fault.severity:8} {fault.meaning}")
    ctx.exit(0)


@click.command()
@click.argument("directory", required=False, type=click.Path(path_type=str))
@click.option(
    "--trust-domain", type=_TrustDomainName(), metavar="NAME", help="The one that it must be of."
)
@click.option(
    "--image",
    type=click.Path(exists=True, file_okay=False, path_type=str),
    metavar="ROOTFS",
    help="Also find roots that are not of the mounted bundles; / for this container's.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_faults,
    help="List every fault that can be found.",
)
@click.pass_context
def doctor(
    ctx: click.Context,
    directory: str | None,
    *,
    trust_domain: TrustDomain | None,
    image: str | None,
    as_json: bool,
) -> None:
    """Find what is wrong with the volume in DIRECTORY, or where KUBETLS_DIR points.

    Exit status: 0 without faults (warnings are none), 1 with faults, 2 when the question makes no
    sense, such as a --trust-domain that is none.
    """
    evidence = gather(directory, trust_domain=trust_domain)
    findings = diagnose(evidence, trust_domain=trust_domain)
    if image is not None:
        found = survey(image, expected=mounted_authorities(evidence))
        findings += tuple(check_image(found, is_replaced=evidence.trust_store is not None))
    is_ok = all(finding.severity != "error" for finding in findings)
    if as_json:
        click.echo(json.dumps(_document(evidence, findings, is_ok=is_ok), indent=2))
    else:
        for line in _lines(evidence, findings):
            click.echo(printable(line))
    ctx.exit(0 if is_ok else 1)


def _document(evidence: Evidence, findings: Sequence[Finding], *, is_ok: bool) -> dict[str, Any]:
    return {
        "format": 1,
        "directory": evidence.directory,
        "trust_store": evidence.trust_store.path if evidence.trust_store else None,
        "ok": is_ok,
        "findings": [finding.document() for finding in findings],
    }


def _lines(evidence: Evidence, findings: Sequence[Finding]) -> Iterator[str]:
    if evidence.trust_store is not None:
        yield f"the image's web roots are replaced by {evidence.trust_store.path} ({ANNOTATION})"
    if not findings:
        yield f"no faults found in {evidence.directory}"
    for fault, alike in groupby(findings, key=lambda finding: finding.fault):
        found = list(alike)
        yield f"{fault.severity}: {found[0].name}: {fault.meaning}"
        for each in found:
            where = "" if each.path is None else f"{each.path}: "
            yield f"  found  {where}{each.found}"
        yield f"  do     {fault.remedy}"
