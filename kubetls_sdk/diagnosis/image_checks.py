# SPDX-License-Identifier: Apache-2.0
"""Faults of the image around a volume: whom its programs believe by default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256

from kubetls_sdk.diagnosis.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubetls_sdk.diagnosis.evidence import Evidence
    from kubetls_sdk.diagnosis.image import Survey

__all__ = ("check_image", "mounted_authorities")


def mounted_authorities(evidence: Evidence) -> frozenset[str]:
    """The SHA-256 of all authorities in the volume's bundles, in hexadecimal."""
    bundles = evidence.bundles.values()
    return frozenset(each.fingerprint(SHA256()).hex() for b in bundles for each in b.authorities)


def check_image(found: Survey, *, is_replaced: bool = False) -> Iterator[Finding]:
    """Do trust stores of the image have other roots than ours?

    Args:
        found: What is in the image.
        is_replaced: Whether the container has the internal trust store in place of the image's.
    """
    for store in found.stores:
        believers = store.remaining if is_replaced else store.kind.used_by
        if believers and not store.is_clean:
            count = store.problem if store.unexpected is None else f"{store.unexpected} of them"
            still = "still " if is_replaced else ""
            yield Finding.of("web-roots", f"{count}, {still}believed by {believers}", store.path)
    for problem in found.problems:
        yield Finding.of("web-roots", f"not all was looked at: {problem}", found.root)
