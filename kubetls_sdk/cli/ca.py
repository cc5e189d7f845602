# SPDX-License-Identifier: Apache-2.0
"""`kubetls ca`: certificates of ours for partners.

Rules:
    1. What a certificate allows is said in words, before anybody hands it out.
    2. What cannot be constrained is refused; exit status 2.
    3. Standard output is the certificate, or the document of `--json`; the words go to standard
       error. No private key is ever printed.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk.cli.duration import DURATION
from kubetls_sdk.cli.inspect import printable
from kubetls_sdk.diagnosis.name_text import issuer_text, subject_text
from kubetls_sdk.exceptions import SpiffeIdError
from kubetls_sdk.federation.difference import fingerprint
from kubetls_sdk.federation.output_file import write_file
from kubetls_sdk.federation.signing import (
    PartnerAuthority,
    PartnerConstraints,
    PartnerRoots,
    SigningAuthority,
    cross_sign,
)
from kubetls_sdk.spiffe_id import TrustDomain

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

__all__ = ("ca",)

_file = click.Path(path_type=Path, exists=True, dir_okay=False)
_new_file = click.Path(path_type=Path, dir_okay=False)
_directory = click.Path(path_type=Path, file_okay=False)


def _domain(_context: click.Context, _option: click.Parameter, value: str) -> TrustDomain:
    try:
        return TrustDomain.parse(value)
    except SpiffeIdError as err:
        raise click.BadParameter(str(err)) from err


def _names(
    _context: click.Context, _option: click.Parameter, values: Iterable[str]
) -> tuple[x509.Name, ...]:
    try:
        return tuple(x509.Name.from_rfc4514_string(value) for value in values)
    except ValueError as err:
        raise click.BadParameter(f"expected a subject such as 'O=Partner': {err}") from err


_own = click.option(
    "--trust-domain",
    "own",
    required=True,
    envvar="KUBETLS_TRUST_DOMAIN",
    metavar="NAME",
    callback=_domain,
    help="Our own.",
)
_out = click.option("--out", type=_new_file, help="Write the certificate here.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group()
def ca() -> None:
    """Sign for partners: their CA under constraints, or single workloads."""


@ca.command("cross-sign")
@click.argument("partner_ca", type=_file)
@_own
@click.option(
    "--partner", "domain", required=True, metavar="NAME", callback=_domain, help="Its trust domain."
)
@click.option("--ca-certificate", required=True, type=_file, help="Our CA, PEM.")
@click.option("--ca-key", required=True, type=_file, help="Its key, PEM, not encrypted.")
@click.option("--dns", "dns_names", multiple=True, metavar="NAME", help="Permit; repeatable.")
@click.option(
    "--subject",
    "subjects",
    multiple=True,
    metavar="NAME",
    callback=_names,
    help="Permit subjects that begin so, such as 'O=Partner'; repeatable.",
)
@click.option("--any-subject", is_flag=True, help="Leave subjects alone.")
@click.option("--path-length", type=int, default=0, show_default=True, help="CAs below it.")
@click.option("--ttl", type=DURATION, default="90d", show_default=True, help="At most.")
@_out
@_as_json
def cross_sign_command(
    partner_ca: Path, own: TrustDomain, domain: TrustDomain, ttl: timedelta, **options: Any
) -> None:
    """Sign PARTNER_CA, a partner's CA certificate or CSR, with ours under constraints.

    The certificate belongs into the partner's own trust bundle, in place of its root: it is no path
    to our root. Without --dns and --subject the partner may vouch for its SPIFFE IDs and nothing
    else.
    """
    if options["subjects"] and options["any_subject"]:
        raise click.UsageError("expected --subject or --any-subject, got both")
    constraints = PartnerConstraints(
        trust_domain=domain,
        dns_names=options["dns_names"],
        subjects=None if options["any_subject"] else options["subjects"],
        path_length=options["path_length"],
    )
    now = datetime.now(UTC)
    signed = cross_sign(
        PartnerAuthority.parse(partner_ca.read_bytes(), trust_domain=domain, now=now),
        issuer=_authority(options["ca_certificate"], options["ca_key"]),
        own=own,
        constraints=constraints,
        now=now,
        ttl=ttl,
    )
    words = list(constraints.words())
    place = f"an authority for the trust bundle of {domain}, and for no other"
    _give(signed, words, place, out=options["out"], as_json=options["as_json"])


@ca.command("issue-partner")
@click.argument("directory", type=_directory)
@_own
@click.option("--partner", required=True, metavar="NAME", help="A short name of the partner.")
@click.option("--path", required=True, metavar="PATH", help="Of its workload, such as /orders.")
@click.option("--csr", required=True, type=_file, help="Of the workload, which keeps its key.")
@click.option("--ttl", type=DURATION, default="24h", show_default=True, help="At most 7d.")
@_out
@_as_json
def issue_partner(
    directory: Path, own: TrustDomain, partner: str, path: str, csr: Path, **options: Any
) -> None:
    """Issue a certificate for one workload of a partner, in a trust domain of its own.

    DIRECTORY holds a root for each partner, made when it is first needed: keep it as safe as any
    CA. The bundle of the trust domain `partners.<ours>` is written there too, for the volumes of
    the workloads that the partner may call.
    """
    roots = PartnerRoots(directory, own)
    leaf = roots.issue(partner, path, csr.read_bytes(), now=datetime.now(UTC), ttl=options["ttl"])
    words = [
        f"SPIFFE ID: spiffe://{roots.trust_domain}/{partner}{path}",
        "matched only by rules that name this trust domain",
        f"revoked, with all of {partner}: kubetls ca revoke-partner",
    ]
    place = f"verified by {roots.bundle_file}"
    _give(leaf, words, place, out=options["out"], as_json=options["as_json"])


@ca.command("revoke-partner")
@click.argument("directory", type=_directory)
@_own
@click.option("--partner", required=True, metavar="NAME", help="As in issue-partner.")
def revoke_partner(directory: Path, own: TrustDomain, partner: str) -> None:
    """Remove a partner's root, and with it everything that it signed.

    It takes effect where the bundle file is mounted once that is the new one.
    """
    roots = PartnerRoots(directory, own)
    roots.revoke(partner)
    count = len(roots.bundle())
    click.echo(f"revoked {partner}: {roots.bundle_file} has {count} root{'s'[: count != 1]} left")


def _authority(certificate: Path, key: Path) -> SigningAuthority:
    return SigningAuthority.load(certificate.read_bytes(), key.read_bytes())


def _give(
    certificate: x509.Certificate, words: list[str], place: str, *, out: Path | None, as_json: bool
) -> None:
    """Write or print a certificate, and say what it is."""
    text = certificate.public_bytes(Encoding.PEM)
    if out is not None:
        write_file(out, text)
    if as_json:
        click.echo(json.dumps(_fields(certificate, words, place, text), indent=2))
        return
    for line in _lines(certificate, words, place):
        click.echo(printable(line), err=True)
    if out is None:
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()


def _fields(
    certificate: x509.Certificate, words: list[str], place: str, text: bytes
) -> dict[str, Any]:
    return {
        "format": 1,
        "subject": subject_text(certificate),
        "issuer": issuer_text(certificate),
        "sha256": fingerprint(certificate),
        "not_before": _time(certificate.not_valid_before_utc),
        "not_after": _time(certificate.not_valid_after_utc),
        "allows": words,
        "place": place,
        "certificate": text.decode(),
    }


def _lines(certificate: x509.Certificate, words: list[str], place: str) -> list[str]:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return [
        f"signed {subject_text(certificate)}",
        f"by {issuer_text(certificate)}",
        f"valid {_time(start)} to {_time(end)}",
        *words,
        place,
        f"sha256 {fingerprint(certificate)}",
    ]


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
