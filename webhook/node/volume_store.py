# SPDX-License-Identifier: Apache-2.0
"""The volumes of this node, as they lie on it; found again by whoever runs after us.

    <folder>/<SHA-256 of the volume's id>/    0700; a tmpfs of its own, where mounts are allowed
        state.json                            the publication; neither key nor token
        volume/                               what the pod sees: files behind `..data`

Rules:
    1. All of it is ours alone, and is checked to be before the first use.
    2. A volume that is not complete is nobody's: the next start removes it.
    3. What has another name or form is not ours: it is left alone, and said so.
    4. Work on one volume is done one after the other, on different ones at once. Every method but
       `get`, `__len__` and iteration blocks: call it in a thread.
    5. `remove` is the end of every way, and may be repeated.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
import threading
from typing import TYPE_CHECKING, Final

from webhook.exceptions import WebhookError
from webhook.node.publication import InvalidPublication
from webhook.node.state_file import read_state, write_state
from webhook.node.target import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from webhook.node.placement import Placement
    from webhook.node.publication import Publication

__all__ = ("StoreError", "UnknownVolumeError", "VolumeStore")

_log = logging.getLogger(__name__)

_HOME: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_LOCKS: Final = 64


class StoreError(WebhookError):
    """The folder of the store is not one that keys may be kept in."""


class UnknownVolumeError(WebhookError):
    """A volume is not there, or no longer."""


class VolumeStore:
    """The volumes of this node.

    Args:
        folder: Of ours alone; made when it is missing.
        placement: How volumes are made and shown to pods.
    """

    def __init__(self, folder: Path, placement: Placement) -> None:
        self._folder = folder
        self._placement = placement
        self._volumes: dict[str, Publication] = {}
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def open(self) -> None:
        """Take over what earlier processes left: complete volumes are kept, others removed.

        Raises:
            StoreError: The folder is a symlink, or another user's.
            OSError: The disk fails.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = os.lstat(self._folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise StoreError(f"{self._folder}: expected a folder of our own, and no symlink")
        self._folder.chmod(0o700)
        for entry in sorted(self._folder.iterdir()):
            if _HOME.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink():
                self._take_over(entry)
            else:
                _log.warning("%s is not ours: left alone", entry)

    def __iter__(self) -> Iterator[Publication]:
        """The publications of all volumes, as they are now."""
        return iter(list(self._volumes.values()))

    def __len__(self) -> int:
        return len(self._volumes)

    def get(self, volume_id: str) -> Publication | None:
        """The publication of a volume; None when there is none of that name. Never blocks."""
        return self._volumes.get(volume_id)

    def read(self, volume_id: str) -> dict[str, bytes]:
        """The files as they were last written; none when they never were.

        Raises:
            UnknownVolumeError: There is no such volume.
        """
        self._known(volume_id)
        return self._placement.read(self._home(volume_id))

    def create(self, publication: Publication) -> None:
        """Make an empty volume, which the pod does not see yet; an older one of the id goes first.

        Raises:
            TargetError: Something at the target, or on the way to it, may not be there.
            OSError: The kernel or the disk refused; nothing is left behind.
        """
        home = self._home(publication.volume_id)
        with self._lock(home):
            self._check_nobodys(publication.volume_id, publication.target)
            self._volumes.pop(publication.volume_id, None)
            self._placement.discard(home)
            try:
                self._placement.make(home, publication)
                write_state(home, publication)
            except BaseException:
                self._placement.discard(home)
                raise
            self._volumes[publication.volume_id] = publication

    def write(self, volume_id: str, files: Mapping[str, bytes]) -> bool:
        """Replace all files of a volume at once; when that fails, the old ones stay.

        Args:
            volume_id: Of a volume that was created.
            files: File name to content; what is not named is removed.

        Returns:
            False when just these files were there already.

        Raises:
            UnknownVolumeError: There is no such volume.
            OSError: No space is left, or the disk fails.
        """
        home = self._home(volume_id)
        with self._lock(home):
            return self._placement.write(home, self._known(volume_id), files)

    def expose(self, volume_id: str) -> None:
        """Show a volume at its target, read-only; nothing happens when it is shown there already.

        Raises:
            UnknownVolumeError: There is no such volume.
            TargetError: Something at the target, or on the way to it, may not be there.
            OSError: The kernel refused; the target is then as it was.
        """
        home = self._home(volume_id)
        with self._lock(home):
            self._placement.expose(home, self._known(volume_id))

    def is_exposed(self, volume_id: str) -> bool:
        """Whether the volume is at its target: a look that costs microseconds."""
        publication = self._volumes.get(volume_id)
        if publication is None:
            return False
        return self._placement.is_exposed(self._home(volume_id), publication)

    def remove(self, volume_id: str, target: Path) -> None:
        """Take a volume from its target, wipe it, and remove it and the target's folder.

        Of an unknown volume only an empty folder at the target is removed; a known one that was
        published elsewhere stays.

        Raises:
            TargetError: Something at the target, or on the way to it, may not be there; or it is
                another volume's.
            OSError: The kernel or the disk refused; to be repeated.
        """
        home = self._home(volume_id)
        with self._lock(home):
            known = self._volumes.get(volume_id)
            is_ours = known is not None and known.target == target
            self._check_nobodys(volume_id, target)
            self._placement.withdraw(home, target, is_ours=is_ours)
            if known is None or is_ours:
                self._placement.discard(home)
                self._volumes.pop(volume_id, None)

    def _check_nobodys(self, volume_id: str, target: Path) -> None:
        """Let no volume take another's place, or end it."""
        for known in self:
            if known.target == target and known.volume_id != volume_id:
                raise TargetError(f"{target}: it is the place of volume {known.volume_id!r}")

    def _take_over(self, home: Path) -> None:
        """Keep a volume of an earlier process, or remove what is not whole."""
        publication = self._recorded(home)
        if publication is not None and self._is_whole(home, publication):
            self._volumes[publication.volume_id] = publication
            self._finish_write(home, publication)
            return
        _log.warning("%s is not whole: removed", home)
        try:
            if publication is not None:
                self._placement.withdraw(home, publication.target, is_ours=True)
            self._placement.discard(home)
        except (TargetError, OSError) as error:
            _log.error("%s cannot be removed: %s", home, error)

    def _finish_write(self, home: Path, publication: Publication) -> None:
        """Do what a process that was killed in a write left to do."""
        try:
            self._placement.write(home, publication, self._placement.read(home))
        except OSError as error:
            _log.warning("%s is kept as it is: %s", home, error)

    def _recorded(self, home: Path) -> Publication | None:
        """Whose a volume is by its own word; None when that cannot be so."""
        try:
            publication = read_state(home, self._placement.kubelet_folder)
        except (InvalidPublication, OSError, ValueError) as error:
            _log.warning("%s does not say whose it is: %s", home, error)
            return None
        return publication if home == self._home(publication.volume_id) else None

    def _is_whole(self, home: Path, publication: Publication) -> bool:
        try:
            return (
                self._placement.is_made(home)
                and bool(self._placement.read(home))
                and self._placement.is_exposed(home, publication)
            )
        except OSError as error:
            _log.warning("%s cannot be read: %s", home, error)
            return False

    def _known(self, volume_id: str) -> Publication:
        publication = self._volumes.get(volume_id)
        if publication is None:
            raise UnknownVolumeError(f"no volume {volume_id!r}")
        return publication

    def _home(self, volume_id: str) -> Path:
        return self._folder / hashlib.sha256(volume_id.encode()).hexdigest()

    def _lock(self, home: Path) -> threading.Lock:
        return self._locks[int(home.name[:8], 16) % _LOCKS]
