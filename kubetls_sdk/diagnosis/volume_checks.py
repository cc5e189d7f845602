# SPDX-License-Identifier: Apache-2.0
"""Faults of the mount and of its files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kubetls_sdk._directory import DATA_LINK
from kubetls_sdk.diagnosis.finding import Finding
from kubetls_sdk.exceptions import VolumeError
from kubetls_sdk.volume import LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubetls_sdk.diagnosis.evidence import Evidence
    from kubetls_sdk.volume import VolumeFile

__all__ = ("check_files", "check_mount", "check_renewal")

_REFRESH = 2 / 3  # Of the lifetime: who renews has done so by then (kubelet, cert-manager, SPIRE).
_PLAIN_BY_DESIGN = "spiffe-helper"


def check_mount(evidence: Evidence) -> Iterator[Finding]:
    """Is there a volume at all?"""
    if not isinstance(evidence.content, VolumeError):
        return
    denied = isinstance(evidence.content.__cause__, PermissionError)
    name = "unreadable-directory" if denied else "missing-mount"
    yield Finding.of(name, evidence.content.message, evidence.directory)


def check_files(evidence: Evidence) -> Iterator[Finding]:
    """Are the files of a layout there, and may we read them?"""
    content = evidence.content
    if isinstance(content, VolumeError):
        return
    if content.layout is None:
        found = content.certificate.content
        text = found.message if isinstance(found, VolumeError) else ""
        yield Finding.of("unsupported-layout", text, evidence.directory)
    for role, file in evidence.roles():
        if isinstance(file.content, VolumeError):
            yield _unread(evidence, role, file, file.content)


def check_renewal(evidence: Evidence) -> Iterator[Finding]:
    """Can these files ever change?"""
    content = evidence.content
    if isinstance(content, VolumeError):
        return
    for path in sorted(evidence.mounted_files):
        yield Finding.of("subpath-mount", "this file is a mount of its own", path)
    if content.layout is None or evidence.mounted_files:
        return
    facts = evidence.files[content.certificate.path]
    if facts.is_linked or not facts.exists:
        return
    found = f"expected a link through {DATA_LINK!r}, got a plain file"
    if _is_overdue(evidence):
        changed = f"{facts.modified_at:%Y-%m-%dT%H:%M:%SZ}"
        text = f"{found}, unchanged since {changed} although renewal is overdue"
        yield Finding.of("subpath-mount", text, content.certificate.path)
    elif content.layout != _PLAIN_BY_DESIGN:
        yield Finding.of("plain-files", found, content.certificate.path)


def _unread(evidence: Evidence, role: str, file: VolumeFile, err: VolumeError) -> Finding:
    facts = evidence.files[file.path]
    if not facts.exists:
        wanted = ", or ".join(
            " with ".join(dict.fromkeys((each.private_key, each.certificate))) for each in LAYOUTS
        )
        found = f"{os.path.basename(file.path)!r} is not there; layouts are {wanted}"
        return Finding.of("incomplete-layout", found, file.path)
    is_key = role in ("private-key", "credential")
    name = "unreadable-key" if is_key and facts.is_denied else "unreadable-file"
    return Finding.of(name, err.message, file.path)


def _is_overdue(evidence: Evidence) -> bool:
    if not evidence.chain:
        return False
    leaf = evidence.chain[0]
    lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return evidence.now > leaf.not_valid_before_utc + lifetime * _REFRESH
