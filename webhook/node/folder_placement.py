# SPDX-License-Identifier: Apache-2.0
"""Volumes where nothing may be mounted: plain folders, for development.

Rules:
    1. Keys are written to the disk, twice: this is for clusters that hold nothing worth a key.
    2. What pods see changes at once all the same, and nothing is seen before `expose`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from webhook.node.atomic_folder import AtomicFolder, wipe
from webhook.node.target import MissingParentError, Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webhook.node.publication import Publication

__all__ = ("FolderPlacement",)

_VOLUME: Final = "volume"


class FolderPlacement:
    """Plain folders, for development without privileges: keys are written to the disk.

    A pod's own view of the target may be writable, and the group is applied only where we may.

    Args:
        kubelet_folder: The folder in which targets are.
    """

    def __init__(self, kubelet_folder: Path) -> None:
        self._kubelet_folder = kubelet_folder

    @property
    def kubelet_folder(self) -> Path:
        """The folder in which targets are."""
        return self._kubelet_folder

    def make(self, home: Path, publication: Publication) -> None:
        """Make the volume's folder."""
        with Target.open(publication.target, self._kubelet_folder) as target:
            target.make()
        home.mkdir(mode=0o700)
        (home / _VOLUME).mkdir(mode=0o700)

    def is_made(self, home: Path) -> bool:
        """Whether the volume's folder is there."""
        return (home / _VOLUME).is_dir()

    def write(self, home: Path, publication: Publication, files: Mapping[str, bytes]) -> bool:
        """Replace all files, at the target as well when they are shown there."""
        is_exposed = self.is_exposed(home, publication)
        is_new = AtomicFolder(home / _VOLUME).write(files)
        if is_exposed:
            self.expose(home, publication)
        return is_new

    def read(self, home: Path) -> dict[str, bytes]:
        """The files as they were last written."""
        return AtomicFolder(home / _VOLUME).read()

    def expose(self, home: Path, publication: Publication) -> None:
        """Copy the files to the target."""
        with Target.open(publication.target, self._kubelet_folder) as target:
            target.make()
            with target.entered() as descriptor:
                shown = AtomicFolder(
                    Path(f"/proc/self/fd/{descriptor}"), _own_group(publication.group)
                )
                shown.protect()
                shown.write(self.read(home))

    def is_exposed(self, home: Path, publication: Publication) -> bool:
        """Whether the target has files of ours."""
        return (publication.target / "..data").is_dir()

    def withdraw(self, home: Path, target: Path, *, is_ours: bool) -> None:
        """Remove a target; one of ours with all that is in it, for the pod may have written too.

        Raises:
            TargetError: There is no folder.
            OSError: The folder is not empty.
        """
        with (
            contextlib.suppress(MissingParentError),
            Target.open(target, self._kubelet_folder) as opened,
        ):
            if not opened.is_there:
                return
            if is_ours:
                with opened.entered() as descriptor:
                    wipe(Path(f"/proc/self/fd/{descriptor}"))
            opened.remove()

    def discard(self, home: Path) -> None:
        """Remove the volume's folder."""
        if home.exists():
            shutil.rmtree(home)


def _own_group(group: int | None) -> int | None:
    """The group that we can give files to: without privileges, one that we are in."""
    if group is None or os.geteuid() == 0 or group in os.getgroups():
        return group
    return os.getegid()
