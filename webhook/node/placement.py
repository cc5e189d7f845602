# SPDX-License-Identifier: Apache-2.0
"""How volumes are made and shown to pods; in production, as mounts.

Rules:
    1. A pod sees nothing of a volume before `expose`, and can never write to it where mounts are.
    2. `make` and `expose` leave nothing behind when they fail; `withdraw` and `discard` may be
       repeated, and do what is left to do.
    3. Only mounts of ours are ever unmounted.
    4. What a volume held is removed before its last mount: a process that keeps it busy keeps no
       key of ours.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Final, Protocol

from webhook.node.atomic_folder import AtomicFolder, wipe
from webhook.node.mounts import bind, make_read_only, mount_tmpfs, mounted_at, mounts, unmount
from webhook.node.target import MissingParentError, Target, TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from webhook.node.publication import Publication

__all__ = ("Placement", "TmpfsPlacement")

_VOLUME: Final = "volume"
_SHOWN: Final = "shown"
_MOST_BYTES: Final = 16 * 1024 * 1024


class Placement(Protocol):
    """How volumes are made and shown."""

    @property
    def kubelet_folder(self) -> Path:
        """The folder in which targets are."""

    def make(self, home: Path, publication: Publication) -> None:
        """Make what a volume needs, empty and unseen."""

    def is_made(self, home: Path) -> bool:
        """Whether `make` was done, and no reboot undid it."""

    def write(self, home: Path, publication: Publication, files: Mapping[str, bytes]) -> bool:
        """Replace all files, as `AtomicFolder.write` does."""

    def read(self, home: Path) -> dict[str, bytes]:
        """The files as they were last written."""

    def expose(self, home: Path, publication: Publication) -> None:
        """Show the volume at its target."""

    def is_exposed(self, home: Path, publication: Publication) -> bool:
        """Whether it is shown there, whole."""

    def withdraw(self, home: Path, target: Path, *, is_ours: bool) -> None:
        """Take what we show from a target, and remove the target."""

    def discard(self, home: Path) -> None:
        """Wipe and remove what `make` made."""


class TmpfsPlacement:
    """A tmpfs for each volume, and a read-only bind mount of it at the target.

    Keys are in memory only. It takes CAP_SYS_ADMIN, and mounts that reach the host.

    Args:
        kubelet_folder: The folder in which targets are.
        most_bytes: The size of each tmpfs; old and new files lie in it side by side.
    """

    def __init__(self, kubelet_folder: Path, *, most_bytes: int = _MOST_BYTES) -> None:
        self._kubelet_folder = kubelet_folder
        self._most_bytes = most_bytes

    @property
    def kubelet_folder(self) -> Path:
        """The folder in which targets are."""
        return self._kubelet_folder

    def make(self, home: Path, publication: Publication) -> None:
        """Mount the volume's tmpfs, with the folder in it that is going to be shown."""
        with Target.open(publication.target, self._kubelet_folder) as target:
            target.make()
        home.mkdir(mode=0o700)
        mount_tmpfs(home, name=home.name[:16], most_bytes=self._most_bytes)
        (home / _VOLUME).mkdir(mode=0o700)
        AtomicFolder(home / _VOLUME, publication.group).protect()

    def is_made(self, home: Path) -> bool:
        """Whether the volume's tmpfs is mounted, and of ours."""
        number = _mount_number(home)
        return number is not None and _is_ours(number)

    def write(self, home: Path, publication: Publication, files: Mapping[str, bytes]) -> bool:
        """Replace all files, as `AtomicFolder.write` does."""
        return AtomicFolder(home / _VOLUME, publication.group).write(files)

    def read(self, home: Path) -> dict[str, bytes]:
        """The files as they were last written."""
        return AtomicFolder(home / _VOLUME).read()

    def expose(self, home: Path, publication: Publication) -> None:
        """Bind the volume to its target; what an earlier process of ours left there goes first.

        Raises:
            TargetError: Somebody else's mount is there.
        """
        with Target.open(publication.target, self._kubelet_folder) as target:
            target.make()
            if self.is_exposed(home, publication):
                return
            _unmount_ours(target)
            with _read_only(home) as shown, target.entered() as descriptor:
                bind(shown, f"/proc/self/fd/{descriptor}")

    def is_exposed(self, home: Path, publication: Publication) -> bool:
        """Whether the target is this volume's folder, and read-only."""
        try:
            shown, kept = os.stat(publication.target), os.stat(home / _VOLUME)
            flags = os.statvfs(publication.target).f_flag
        except OSError:
            return False
        return os.path.samestat(shown, kept) and bool(flags & os.ST_RDONLY)

    def withdraw(self, home: Path, target: Path, *, is_ours: bool) -> None:
        """Unmount what is ours at a target, and remove the target.

        Raises:
            TargetError: Somebody else's mount is there, or no folder.
            OSError: The folder is not empty.
        """
        with (
            contextlib.suppress(MissingParentError),
            Target.open(target, self._kubelet_folder) as opened,
        ):
            if opened.is_there:
                _unmount_ours(opened)
                opened.remove()

    def discard(self, home: Path) -> None:
        """Wipe the volume's tmpfs, unmount it, and remove the folder.

        Raises:
            TargetError: Somebody else mounted something there, or inside: what that is made of is
                not ours to wipe.
        """
        if not home.exists():
            return
        while (number := _mount_number(home)) is not None:
            if not _is_ours(number):
                raise TargetError(f"{home}: expected a mount of ours")
            _cover_up(home / _SHOWN)
            _require_no_mount_in(home)
            wipe(home)
            unmount(str(home))
        _require_no_mount_in(home)
        shutil.rmtree(home)


@contextlib.contextmanager
def _read_only(home: Path) -> Iterator[Path]:
    """The volume's folder at a second place, for a moment: there it is read-only.

    What is mounted from there is read-only wherever it is seen. A mount that is made read-only
    after it was made, is so for us alone: on the node, and for who comes after us, it is not.
    """
    shown = home / _SHOWN
    _cover_up(shown)
    shown.mkdir(mode=0o700, exist_ok=True)
    bind(home / _VOLUME, str(shown))
    try:
        make_read_only(str(shown))
        yield shown
    finally:
        unmount(str(shown))


def _cover_up(shown: Path) -> None:
    """Unmount what a killed process left of `_read_only`."""
    while shown.is_dir() and _mount_number(shown) is not None:
        unmount(str(shown))


def _require_no_mount_in(home: Path) -> None:
    place = home.resolve()
    if any(place in mount.place.parents for mount in mounts()):
        raise TargetError(f"{home}: expected no mount of somebody else inside")


def _unmount_ours(target: Target) -> None:
    while (number := target.mount_number()) is not None:
        if not _is_ours(number):
            raise TargetError(f"{target.path}: expected no mount of somebody else")
        unmount(target.place)


def _mount_number(folder: Path) -> int | None:
    """The number of the mount on top of a folder of ours; None when it is a plain folder."""
    inside = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    outside = os.open(folder.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        number = mounted_at(inside)
        return None if number == mounted_at(outside) else number
    finally:
        os.close(inside)
        os.close(outside)


def _is_ours(number: int) -> bool:
    return any(mount.is_ours for mount in mounts() if mount.number == number)
