# SPDX-License-Identifier: Apache-2.0
"""How `kubetls bundle` says what a bundle holds and what changes: lines for people, and JSON.

Rules:
    1. Keys of the JSON documents are only ever added; `format` grows when one changes its meaning.
    2. Text of a certificate reaches a terminal only with its control characters escaped.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kubetls_sdk.cli.inspect import printable
from kubetls_sdk.diagnosis.name_text import subject_text
from kubetls_sdk.federation.difference import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cryptography import x509

    from kubetls_sdk.bundle import TrustBundle
    from kubetls_sdk.federation.difference import BundleDifference

__all__ = ("bundle_fields", "bundle_lines", "difference_fields", "difference_lines")

FORMAT = 1


def bundle_fields(bundle: TrustBundle) -> dict[str, Any]:
    """A bundle as a JSON document."""
    return {
        "format": FORMAT,
        "trust_domain": str(bundle.trust_domain),
        "sequence": bundle.sequence,
        "refresh_hint": bundle.refresh_hint,
        "authorities": _authorities(bundle.authorities),
        "jwt_keys": sorted(bundle.jwt_authorities),
    }


def bundle_lines(bundle: TrustBundle) -> Iterator[str]:
    """A bundle for people."""
    yield f"trust domain  {bundle.trust_domain}"
    if bundle.sequence is not None:
        yield f"sequence      {bundle.sequence}"
    if bundle.refresh_hint is not None:
        yield f"refresh hint  {bundle.refresh_hint} s"
    for authority in bundle.authorities:
        yield from _authority_lines("authority     ", authority)
    for kid in sorted(bundle.jwt_authorities):
        yield printable(f"JWT-SVID key  {kid}")
    if not len(bundle):
        yield "authority     none: this bundle trusts nobody"


def difference_fields(difference: BundleDifference) -> dict[str, Any]:
    """A difference as a JSON document."""
    return {
        "is_same": difference.is_empty,
        "added": _authorities(difference.added),
        "removed": _authorities(difference.removed),
        "kept": _authorities(difference.kept),
        "added_jwt_keys": list(difference.added_keys),
        "removed_jwt_keys": list(difference.removed_keys),
    }


def difference_lines(difference: BundleDifference) -> Iterator[str]:
    """A difference for people: `+` is trusted from now on, `-` no longer, ` ` still."""
    marked = (("+ ", difference.added), ("- ", difference.removed), ("  ", difference.kept))
    for mark, authorities in marked:
        for authority in authorities:
            yield from _authority_lines(mark, authority)
    for mark, names in (("+ ", difference.added_keys), ("- ", difference.removed_keys)):
        for kid in names:
            yield printable(f"{mark}JWT-SVID key {kid}")
    yield "the same authorities" if difference.is_empty else _sum(difference)


def _sum(difference: BundleDifference) -> str:
    added = len(difference.added) + len(difference.added_keys)
    removed = len(difference.removed) + len(difference.removed_keys)
    return f"{added} added, {removed} removed, {len(difference.kept)} kept"


def _authorities(authorities: Iterable[x509.Certificate]) -> list[dict[str, str]]:
    return [
        {
            "subject": subject_text(each),
            "serial": f"{each.serial_number:x}",
            "sha256": fingerprint(each),
            "not_after": f"{each.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        }
        for each in authorities
    ]


def _authority_lines(mark: str, authority: x509.Certificate) -> Iterator[str]:
    end = authority.not_valid_after_utc
    until = "EXPIRED at" if end < datetime.now(UTC) else "until"
    yield printable(f"{mark}{subject_text(authority)}, {until} {end:%Y-%m-%dT%H:%M:%SZ}")
    yield f"{' ' * len(mark)}sha256 {fingerprint(authority)}"
