# SPDX-License-Identifier: Apache-2.0
"""The folder at which the kubelet wants a volume, reached without a step through a symlink.

Rules:
    1. Each component below the kubelet's folder is opened in the one before it, and none is a
       symlink: whoever can swap one leads us nowhere.
    2. What was opened is what is used: nothing is looked up by its path a second time.
    3. The folder that holds the target is the kubelet's to make; only the target is ours.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Final

from webhook.exceptions import WebhookError
from webhook.node.mounts import mounted_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ("MissingParentError", "Target", "TargetError")

_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE: Final = 0o750


class TargetError(WebhookError):
    """What is at a target, or on the way to it, is not what may be there."""


class MissingParentError(TargetError):
    """The folder that holds a target is not there, and so is no target."""


class Target:
    """A target with the folder that holds it opened; made by `open`.

    Attributes:
        path: The target, for messages.
    """

    def __init__(self, path: Path, parent: int) -> None:
        self.path = path
        self._parent = parent

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, kubelet_folder: Path) -> Iterator[Target]:
        """Walk to a target; it need not exist, its parent must.

        Args:
            path: Inside the kubelet's folder.
            kubelet_folder: Where the walk starts; the way to it is the administrator's own.

        Raises:
            MissingParentError: There is no folder that holds the target.
            TargetError: A component is a symlink or no folder.
        """
        with contextlib.ExitStack() as opened:
            descriptor = os.open(kubelet_folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, descriptor)
            for component in path.relative_to(kubelet_folder).parts[:-1]:
                descriptor = _enter(descriptor, component, path)
                opened.callback(os.close, descriptor)
            yield cls(path, descriptor)

    @property
    def place(self) -> str:
        """A path of the target for the kernel: one component below what is opened."""
        return f"/proc/self/fd/{self._parent}/{self.path.name}"

    @property
    def is_there(self) -> bool:
        """Whether anything has the target's name."""
        try:
            os.stat(self.path.name, dir_fd=self._parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def make(self) -> None:
        """Make the target, unless it is a folder already.

        Raises:
            TargetError: It is something else.
        """
        try:
            os.mkdir(self.path.name, _MODE, dir_fd=self._parent)
        except FileExistsError:
            found = os.stat(self.path.name, dir_fd=self._parent, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                raise TargetError(f"{self.path}: expected a folder or nothing") from None

    def remove(self) -> None:
        """Remove the target, which must be an empty folder or nothing.

        Raises:
            TargetError: It is something else.
            OSError: It is not empty.
        """
        try:
            os.rmdir(self.path.name, dir_fd=self._parent)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            raise TargetError(f"{self.path}: expected an empty folder to remove") from None

    @contextlib.contextmanager
    def entered(self) -> Iterator[int]:
        """The target itself, opened: what is mounted on it, where something is.

        Raises:
            TargetError: It is a symlink or no folder.
        """
        descriptor = _enter(self._parent, self.path.name, self.path)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def mount_number(self) -> int | None:
        """The number of the mount on top of the target; None when it is a plain folder."""
        with self.entered() as descriptor:
            number = mounted_at(descriptor)
        return None if number == mounted_at(self._parent) else number


def _enter(folder: int, name: str, path: Path) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        raise MissingParentError(f"{path}: expected the kubelet to make {name!r}") from None
    except NotADirectoryError:
        raise TargetError(f"{path}: expected folders and no symlink, got {name!r}") from None
