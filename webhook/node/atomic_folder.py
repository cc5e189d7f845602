# SPDX-License-Identifier: Apache-2.0
"""A folder whose files change all at once, as those of the kubelet's own volumes do.

    ..2026_11_25_20_00_00.123456789/    the files of one write
    ..data -> ..2026_11_25_…            replaced by a rename: this is the moment of the change
    credential-bundle.pem -> ..data/credential-bundle.pem

Rules:
    1. Readers see the files of one write or of another, never a part or a mixture.
    2. Owner and modes are set before anybody can see a file, whatever the umask.
    3. A write that fails leaves what was there, and nothing of its own.
    4. What a killed process left is removed by the next write; strangers' files stay.

Spec: Kubernetes, `pkg/volume/util/atomic_writer.go`.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ("AtomicFolder", "wipe")

_CURRENT: Final = "..data"
_NEXT: Final = "..data_tmp"
_DATED: Final = re.compile(r"\.\.\d{4}(_\d\d){5}\.\d+", re.ASCII)
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class AtomicFolder:
    """An existing folder of ours, and who may read it.

    Args:
        folder: The folder.
        group: May read, together with the owner; None: everyone who reaches the folder may.
    """

    def __init__(self, folder: Path, group: int | None = None) -> None:
        self._folder = folder
        self._group = group

    def protect(self) -> None:
        """Give the folder itself its group and mode.

        Raises:
            OSError: We may not.
        """
        self._own(self._folder, 0o755)

    def write(self, files: Mapping[str, bytes]) -> bool:
        """Replace all files.

        Args:
            files: File name to content; what is not named is removed.

        Returns:
            False when just these files were there already, so that nothing was written.

        Raises:
            ConfigurationError: A name is a path, or starts with `..`.
            OSError: No space is left, or the disk fails; the old files are as they were.
        """
        _check_names(files)
        current = self._current()
        self._sweep(current)
        if current is not None and self.read() == dict(files):
            self._link(files)
            return False
        self._swap(self._write_dated(files))
        self._link(files)
        self._sweep(self._current())
        return True

    def read(self) -> dict[str, bytes]:
        """The files of the last write; none when there was none."""
        current = self._current()
        if current is None:
            return {}
        return {entry.name: entry.read_bytes() for entry in (self._folder / current).iterdir()}

    def _current(self) -> str | None:
        """The name of the dated folder that readers are led to."""
        try:
            name = os.readlink(self._folder / _CURRENT)
        except FileNotFoundError:
            return None
        return name if _DATED.fullmatch(name) and (self._folder / name).is_dir() else None

    def _sweep(self, current: str | None) -> None:
        """Remove what is left of writes that are over, or were never finished."""
        (self._folder / _NEXT).unlink(missing_ok=True)
        for entry in self._folder.iterdir():
            if entry.name != current and _DATED.fullmatch(entry.name) and not entry.is_symlink():
                shutil.rmtree(entry)

    def _write_dated(self, files: Mapping[str, bytes]) -> Path:
        now = datetime.now(UTC)
        dated = self._folder / f"..{now:%Y_%m_%d_%H_%M_%S}.{secrets.randbelow(10**9):09}"
        dated.mkdir(mode=0o700)
        try:
            for name, content in files.items():
                self._write_file(dated / name, content)
            self._own(dated, 0o755)
        except BaseException:
            shutil.rmtree(dated, ignore_errors=True)
            raise
        return dated

    def _write_file(self, path: Path, content: bytes) -> None:
        descriptor = os.open(path, _NEW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            self._own(descriptor, 0o644)

    def _own(self, place: Path | int, mode: int) -> None:
        if self._group is not None:
            os.chown(place, -1, self._group)
            mode &= ~0o007
        os.chmod(place, mode)

    def _swap(self, dated: Path) -> None:
        following = self._folder / _NEXT
        try:
            following.unlink(missing_ok=True)
            following.symlink_to(dated.name)
            following.replace(self._folder / _CURRENT)
        except BaseException:
            shutil.rmtree(dated, ignore_errors=True)
            raise

    def _link(self, files: Mapping[str, bytes]) -> None:
        """Make the visible names those of the files."""
        there = self._links()
        for name in files.keys() - there:
            (self._folder / name).symlink_to(f"{_CURRENT}/{name}")
        self._unlink(there - files.keys())

    def _links(self) -> set[str]:
        """The visible names of ours; a stranger's file is never touched."""
        return {
            entry.name
            for entry in self._folder.iterdir()
            if entry.is_symlink() and os.readlink(entry) == f"{_CURRENT}/{entry.name}"
        }

    def _unlink(self, names: Iterable[str]) -> None:
        for name in names:
            (self._folder / name).unlink(missing_ok=True)


def wipe(folder: Path) -> None:
    """Remove all that is in a folder, but not the folder, and follow no symlink."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _check_names(files: Mapping[str, bytes]) -> None:
    for name in files:
        if not name or "/" in name or "\0" in name or name == "." or name.startswith(".."):
            raise ConfigurationError(
                f"expected a plain file name that does not start with '..', got {name!r}"
            )
