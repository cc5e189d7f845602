# SPDX-License-Identifier: Apache-2.0
"""One look at a volume: its content, what it means, and how its files lie on the disk."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509

from kubetls_sdk import _pem
from kubetls_sdk._directory import DATA_LINK
from kubetls_sdk._profile import MALFORMED, claimed_spiffe_id
from kubetls_sdk.bundle import TrustBundle, TrustBundleSet
from kubetls_sdk.diagnosis.trust_store import find_trust_store
from kubetls_sdk.exceptions import VolumeError
from kubetls_sdk.svid import X509Svid
from kubetls_sdk.volume import default_directory, parse_volume, read_volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from kubetls_sdk.diagnosis.trust_store import TrustStore
    from kubetls_sdk.spiffe_id import TrustDomain
    from kubetls_sdk.volume import Volume, VolumeContent, VolumeFile

__all__ = ("Evidence", "FileFacts", "gather", "mount_points")

_MOUNTINFO = "/proc/self/mountinfo"
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class FileFacts:
    """How one file lies on the disk.

    Attributes:
        exists: There is something of that name, be it a broken link.
        is_linked: It is a link through `..data`, as the kubelet writes.
        is_denied: This process may not open it.
        size: In bytes, or None when it cannot be seen.
        modified_at: Aware UTC time of its last change, or None.
    """

    exists: bool = False
    is_linked: bool = False
    is_denied: bool = False
    size: int | None = None
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a volume.

    Attributes:
        directory: Absolute path.
        content: The bytes of one read, or why there are none; never shown, it holds the key.
        volume: What they mean; None without content.
        files: Facts by absolute path, of all files of the content.
        generation: Where `..data` leads, the kubelet's name of what it wrote; None without.
        mounted_files: Files of the directory that are mounts of their own.
        now: Aware UTC time of the look.
        trust_store: The internal trust store in place of the image's; None: there is none.
    """

    directory: str
    content: VolumeContent | VolumeError = field(repr=False)
    volume: Volume | None
    files: Mapping[str, FileFacts]
    generation: str | None
    mounted_files: AbstractSet[str]
    now: datetime
    trust_store: TrustStore | None = None

    @property
    def svid(self) -> X509Svid | None:
        """The SVID when it can be used, apart from its time."""
        found = self.volume.svid if self.volume else None
        return found if isinstance(found, X509Svid) else None

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """The certificates on disk, whether or not they make an SVID; empty when unreadable."""
        if isinstance(self.content, VolumeError):
            return ()
        text = self.content.certificate.content
        if isinstance(text, VolumeError):
            return ()
        try:
            blocks = [b for b in _pem.blocks(text) if b.label == "CERTIFICATE"]
            return tuple(x509.load_der_x509_certificate(block.der) for block in blocks)
        except MALFORMED:
            return ()

    @property
    def trust_domain(self) -> TrustDomain | None:
        """The trust domain that the certificate on disk claims."""
        claimed = claimed_spiffe_id(self.chain[0]) if self.chain else None
        return claimed.trust_domain if claimed else None

    @property
    def bundles(self) -> TrustBundleSet:
        """The bundles that can be used."""
        found = self.volume.bundles.values() if self.volume else ()
        return TrustBundleSet(b for b in found if isinstance(b, TrustBundle))

    def roles(self) -> Iterator[tuple[str, VolumeFile]]:
        """Each file with its role: `credential` (both), `private-key`, `certificate`, `bundle`."""
        if isinstance(self.content, VolumeError):
            return
        yield from _roles(self.content)


def gather(
    directory: str | os.PathLike[str] | None = None,
    *,
    trust_domain: TrustDomain | None = None,
    now: datetime | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Evidence:
    """Read a volume once, with all that can be said about it. Never raises for what it finds.

    Args:
        directory: The volume; None for `default_directory()`.
        trust_domain: Whose bundle `ca.crt` is when the certificate beside it cannot be read.
        now: Aware UTC time; the clock by default.
        environment: Variables that tell of an internal trust store.
    """
    path = default_directory() if directory is None else os.path.abspath(directory)
    at = now or datetime.now(UTC)
    generation = _generation(path)
    store = find_trust_store(environment)
    try:
        content = read_volume(path)
    except VolumeError as vanished:
        return Evidence(path, vanished, None, {}, generation, frozenset(), at, store)
    files = {file.path: _facts(file.path) for _, file in _roles(content)}
    return Evidence(
        directory=path,
        content=content,
        volume=parse_volume(content, last_trust_domain=trust_domain),
        files=files,
        generation=generation,
        mounted_files=files.keys() & mount_points(_mountinfo()),
        now=at,
        trust_store=store,
    )


def mount_points(mountinfo: str) -> frozenset[str]:
    """The mount points in the text of `/proc/self/mountinfo`.

    Spec: proc_pid_mountinfo(5).
    """
    points = (line.split(" ")[4] for line in mountinfo.splitlines() if line.count(" ") >= 4)
    return frozenset(_OCTAL.sub(lambda found: chr(int(found[1], 8)), point) for point in points)


def _mountinfo() -> str:
    try:
        with open(_MOUNTINFO, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""  # Not Linux: the other signs of a subPath mount remain.


def _roles(content: VolumeContent) -> Iterator[tuple[str, VolumeFile]]:
    if content.layout is not None and content.certificate.path == content.private_key.path:
        yield "credential", content.certificate
    elif content.layout is not None:
        yield "private-key", content.private_key
        yield "certificate", content.certificate
    if content.own_bundle is not None:
        yield "bundle", content.own_bundle
    for name in sorted(content.bundles):
        for file in content.bundles[name]:
            yield "bundle", file


def _generation(directory: str) -> str | None:
    try:
        return os.readlink(os.path.join(directory, DATA_LINK))
    except OSError:
        return None


def _facts(path: str) -> FileFacts:
    try:
        state = os.stat(path)
    except OSError as err:
        is_denied = isinstance(err, PermissionError)
        there = is_denied or os.path.lexists(path)
        return FileFacts(exists=there, is_linked=_is_linked(path), is_denied=is_denied)
    return FileFacts(
        exists=True,
        is_linked=_is_linked(path),
        is_denied=_is_denied(path),
        size=state.st_size,
        modified_at=datetime.fromtimestamp(state.st_mtime, UTC),
    )


def _is_linked(path: str) -> bool:
    try:
        return os.readlink(path).split("/")[0] == DATA_LINK
    except OSError:
        return False


def _is_denied(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY))
    except OSError as err:
        return isinstance(err, PermissionError)
    return False
