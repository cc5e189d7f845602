# SPDX-License-Identifier: Apache-2.0
"""The bytes of a mounted volume, by role, as they were at one moment; see `kubetls_sdk.volume`.

Rules:
    1. One read gives one consistent result, or a `VolumeError` when the volume has vanished.
    2. A file that cannot be read is an error in its place; nothing is parsed.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kubetls_sdk._directory import DirectoryRead, read_directory
from kubetls_sdk._layout import (
    default_directory,
    expected_files,
    is_known,
    named_domain,
    own_bundle_name,
    recognise,
)
from kubetls_sdk.exceptions import VolumeError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("VolumeContent", "VolumeFile", "VolumeFiles", "read_volume")

_Path = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class VolumeFiles:
    """Explicit paths, for credentials that no recognised layout fits.

    Attributes:
        certificate: The chain, leaf first.
        private_key: The key; None when it is in the certificate's file.
        own_bundle: The bundle of our own trust domain, or None.
        bundles: Further bundles, by name of their trust domain.
    """

    certificate: _Path
    private_key: _Path | None = None
    own_bundle: _Path | None = None
    bundles: Mapping[str, _Path] = field(default_factory=dict)

    def paths(self) -> list[str]:
        """All paths, absolute, without duplicates."""
        given = (self.certificate, self.private_key, self.own_bundle, *self.bundles.values())
        return list(dict.fromkeys(os.path.abspath(path) for path in given if path is not None))

    def directories(self) -> list[str]:
        """The directories that hold them, absolute, without duplicates."""
        return list(dict.fromkeys(map(os.path.dirname, self.paths())))


@dataclass(frozen=True, slots=True)
class VolumeFile:
    """One file of a read; the content is kept out of the `repr`, for it may be a private key.

    Attributes:
        path: Absolute, through the visible name.
        content: What it held, or the error that kept it from being read.
    """

    path: str
    content: bytes | VolumeError = field(repr=False)


@dataclass(frozen=True, slots=True)
class VolumeContent:
    """The bytes of one consistent read, by role.

    Attributes:
        directory: The directory that was read, or that of the certificate.
        layout: Name of the layout; None when the key and chain of no layout are there.
        certificate: The chain.
        private_key: The key; the same file as `certificate` when one holds both.
        own_bundle: The bundle that goes by no domain's name, or None when there is no such file.
        bundles: The others that are there, by their domain as the file name or the caller wrote it.
    """

    directory: str
    layout: str | None
    certificate: VolumeFile
    private_key: VolumeFile
    own_bundle: VolumeFile | None
    bundles: Mapping[str, tuple[VolumeFile, ...]]

    def fingerprint(self) -> bytes:
        """A digest that is equal when, and only when, the content is."""
        digest = hashlib.sha256(repr((self.directory, self.layout)).encode())
        files = [self.certificate, self.private_key]
        files += [] if self.own_bundle is None else [self.own_bundle]
        files += [file for name in sorted(self.bundles) for file in self.bundles[name]]
        for file in files:
            is_read = isinstance(file.content, bytes)
            text = file.content if isinstance(file.content, bytes) else str(file.content).encode()
            digest.update(repr((file.path, is_read, len(text))).encode() + text)
        return digest.digest()


def read_volume(source: _Path | VolumeFiles | None = None) -> VolumeContent:
    """Read all files of a volume as they were at one moment; parses nothing.

    Args:
        source: A directory in a recognised layout, explicit paths, or None for
            `default_directory()`.

    Raises:
        VolumeError: The volume has vanished: no directory, or an entirely empty or unreadable one,
            or one whose `..data` link is missing. What it held before is then unknown, not removed.
    """
    if isinstance(source, VolumeFiles):
        return _read_explicit(source)
    return _read_laid_out(default_directory() if source is None else os.path.abspath(source))


def _read_laid_out(directory: str) -> VolumeContent:
    read = read_directory(directory, select=is_known)
    nothing = VolumeError(f"expected {expected_files()}; found {read.listing()}", path=read.path)
    if read.is_blank:
        raise nothing
    named: dict[str, tuple[VolumeFile, ...]] = {}
    for name in sorted(read.files):
        domain = named_domain(name)
        if domain is not None:
            named[domain] = (*named.get(domain, ()), _file(read, name))
    layout = recognise(read.files)
    own = own_bundle_name(read.files)
    return VolumeContent(
        directory=directory,
        layout=layout.name if layout else None,
        certificate=_file(read, layout.certificate) if layout else VolumeFile(directory, nothing),
        private_key=_file(read, layout.private_key) if layout else VolumeFile(directory, nothing),
        own_bundle=_file(read, own) if own else None,
        bundles=named,
    )


def _file(read: DirectoryRead, name: str) -> VolumeFile:
    content = read.files[name] if name in read.files else _missing(read, name)
    return VolumeFile(os.path.join(read.path, name), content)


def _missing(read: DirectoryRead, name: str) -> VolumeError:
    message = f"expected this file, got none; found {read.listing()}"
    return VolumeError(message, path=os.path.join(read.path, name))


def _read_explicit(files: VolumeFiles) -> VolumeContent:
    found, missing = _read_paths(files)
    if not found:
        raise next(iter(missing.values()))
    there = {**missing, **found}

    def role(path: _Path) -> VolumeFile:
        full = os.path.abspath(path)
        return VolumeFile(full, there[full])

    own = files.own_bundle
    certificate = role(files.certificate)
    return VolumeContent(
        directory=os.path.dirname(certificate.path),
        layout="explicit",
        certificate=certificate,
        private_key=certificate if files.private_key is None else role(files.private_key),
        own_bundle=role(own) if own is not None and os.path.abspath(own) in found else None,
        bundles={
            domain: (role(path),)
            for domain, path in files.bundles.items()
            if os.path.abspath(path) in found
        },
    )


def _read_paths(
    files: VolumeFiles,
) -> tuple[dict[str, bytes | VolumeError], dict[str, VolumeError]]:
    """Read explicit paths, each directory once: what is there, and what is gone from it.

    Raises:
        VolumeError: None of the directories can be read.
    """
    found: dict[str, bytes | VolumeError] = {}
    missing: dict[str, VolumeError] = {}
    vanished: list[VolumeError] = []
    for directory in files.directories():
        paths = [path for path in files.paths() if os.path.dirname(path) == directory]
        try:
            read = _read_named(directory, {os.path.basename(path) for path in paths})
        except VolumeError as err:
            vanished.append(err)
            found.update(dict.fromkeys(paths, err))
            continue
        for path in paths:
            name = os.path.basename(path)
            if name in read.files:
                found[path] = read.files[name]
            else:
                missing[path] = _missing(read, name)
    if len(vanished) == len(files.directories()):
        raise vanished[0]
    return found, missing


def _read_named(directory: str, names: set[str]) -> DirectoryRead:
    read = read_directory(directory, select=names.__contains__)
    if read.is_blank:
        raise VolumeError(f"expected {sorted(names)}, found nothing", path=directory)
    return read
