# SPDX-License-Identifier: Apache-2.0
"""A directory that is written exactly as the kubelet writes a mounted volume.

Rules:
    1. Readers never see a mixture: the files of one write lie in one dated directory, and the
       symlink `..data` is replaced by a rename.
    2. Visible names are symlinks through `..data`; those of removed files are removed after the
       swap, and the old directory last.
    3. The ways to write wrongly are named for what they do; `write` is never wrong.

Spec: Kubernetes, `pkg/volume/util/atomic_writer.go`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.testing.layout import Layout, volume_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kubetls_sdk.bundle import TrustBundle, TrustBundleSet
    from kubetls_sdk.svid import X509Svid
    from kubetls_sdk.testing.authority import IssuedChain

__all__ = ("KubeletVolume",)

_CURRENT = "..data"
_NEXT = "..data_tmp"
_KEY_MARK = b"PRIVATE KEY-----"
_DATED = re.compile(r"\.\.\d{4}(_\d\d){5}\.\d+", re.ASCII)


class KubeletVolume:
    """The mounted directory of one workload, seen from the node.

    Args:
        directory: Created with its parents when it is missing.
        key_mode: Mode of files that hold a private key.
        file_mode: Mode of all other files.
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, key_mode: int = 0o600, file_mode: int = 0o644
    ) -> None:
        self.directory = Path(directory)
        self._key_mode = key_mode
        self._file_mode = file_mode
        self._plain: set[str] = set()
        self.directory.mkdir(parents=True, exist_ok=True)

    def write(self, files: Mapping[str, bytes], *, always: bool = False) -> bool:
        """Replace the whole content atomically.

        Args:
            files: File name to content; what is not named is removed.
            always: Write a content that is already there as well; the kubelet does not.

        Returns:
            False when the content was already there, so that nothing was written.

        Raises:
            ConfigurationError: A name is a path, or starts with `..`.
        """
        _check_names(files)
        if not always and self._holds(files):
            return False
        old = self._dated_directory()
        self._swap(self._write_dated(files))
        self._link(files)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
        return True

    def write_svid(
        self,
        svid: X509Svid | IssuedChain,
        bundles: Iterable[TrustBundle] | TrustBundleSet,
        layout: Layout = "spiffe",
        *,
        shuffle: bool = False,
    ) -> bool:
        """Replace the whole content with an SVID and trust bundles; see `volume_files`.

        Raises:
            ConfigurationError: The layout is unknown.
        """
        return self.write(volume_files(svid, bundles, layout, shuffle=shuffle))

    @contextlib.contextmanager
    def gap(self, files: Mapping[str, bytes] | None = None) -> Iterator[None]:
        """The trap of a removed and recreated `..data`: inside the `with`, the volume is dead.

        Args:
            files: The content after the gap; the same as before by default.
        """
        content = dict(files) if files is not None else self.read()
        old = self._dated_directory()
        (self.directory / _CURRENT).unlink(missing_ok=True)
        try:
            yield
        finally:
            self._swap(self._write_dated(content))
            self._link(content)
            if old is not None:
                shutil.rmtree(old, ignore_errors=True)

    def write_plain(self, files: Mapping[str, bytes]) -> None:
        """The trap of a subPath mount: plain files without `..data`, each written in place.

        Raises:
            ConfigurationError: A name is a path, or starts with `..`.
            FileExistsError: A file is there that this object did not write.
        """
        _check_names(files)
        if not self._plain:
            self.clear()
        for name in self._plain - files.keys():
            (self.directory / name).unlink(missing_ok=True)
        for name, content in files.items():
            if name not in self._plain and (self.directory / name).exists():
                raise FileExistsError(errno.EEXIST, "expected no such file", str(name))
            self._plain.add(name)
            self._write_file(self.directory / name, content)

    def clear(self) -> None:
        """The trap of a vanished volume: remove all that was written, but not the directory."""
        for entry in self.directory.iterdir():
            if entry.name in self._plain or entry.name in (_CURRENT, _NEXT) or _is_link(entry):
                entry.unlink()
            elif _DATED.fullmatch(entry.name):
                shutil.rmtree(entry)
        self._plain.clear()

    def read(self) -> dict[str, bytes]:
        """The files as a workload sees them; without `..data`, none."""
        return {
            entry.name: entry.read_bytes()
            for entry in self.directory.iterdir()
            if not entry.name.startswith("..") and entry.is_file()
        }

    def _holds(self, files: Mapping[str, bytes]) -> bool:
        return self._dated_directory() is not None and self.read() == dict(files)

    def _dated_directory(self) -> Path | None:
        try:
            return self.directory / (self.directory / _CURRENT).readlink()
        except FileNotFoundError:
            return None

    def _write_dated(self, files: Mapping[str, bytes]) -> Path:
        now = datetime.now(UTC)
        dated = self.directory / f"..{now:%Y_%m_%d_%H_%M_%S}.{secrets.randbelow(10**9):09}"
        dated.mkdir(mode=0o755)
        dated.chmod(0o755)
        for name, content in files.items():
            self._write_file(dated / name, content)
        return dated

    def _write_file(self, path: Path, content: bytes) -> None:
        mode = self._key_mode if _KEY_MARK in content else self._file_mode
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode & 0o700 | 0o200)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)

    def _swap(self, dated: Path) -> None:
        following = self.directory / _NEXT
        following.unlink(missing_ok=True)
        following.symlink_to(dated.name)
        following.replace(self.directory / _CURRENT)

    def _link(self, files: Mapping[str, bytes]) -> None:
        for name in files:
            visible = self.directory / name
            if name in self._plain:
                visible.unlink(missing_ok=True)
            if not _is_link(visible):
                visible.symlink_to(f"{_CURRENT}/{name}")
        for entry in self.directory.iterdir():
            if entry.name not in files and (_is_link(entry) or entry.name in self._plain):
                entry.unlink()
        self._plain.clear()

    def __repr__(self) -> str:
        return f"<KubeletVolume {str(self.directory)!r}>"


def _is_link(entry: Path) -> bool:
    """Tell whether this is a visible name of ours; a stranger's file is never touched."""
    return entry.is_symlink() and os.readlink(entry) == f"{_CURRENT}/{entry.name}"


def _check_names(files: Mapping[str, bytes]) -> None:
    for name in files:
        if not name or "/" in name or "\0" in name or name == "." or name.startswith(".."):
            raise ConfigurationError(
                f"expected a plain file name that does not start with '..', got {name!r}"
            )
