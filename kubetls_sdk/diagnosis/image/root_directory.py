# SPDX-License-Identifier: Apache-2.0
"""Read below a directory as if it were `/`, whatever the links in it say.

Rules:
    1. Each component is opened by itself, from an open directory, and never through a link; links
       are read and resolved here, absolute ones from the root, `..` no further than it.
    2. Only regular files are opened; a FIFO or a device is an error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Self

__all__ = ("Entry", "RootDirectory")

_MAX_LINKS = 40
_MAX_DEPTH = 64
_MAX_COMPONENTS = 256
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_NOT_OF_THE_IMAGE = frozenset({"/proc", "/sys", "/dev"})


class Entry(NamedTuple):
    """Something in a directory of the image.

    Attributes:
        path: From the root of the image, beginning with `/`.
        is_directory: A directory, and no link to one.
        is_unreadable: A directory whose entries cannot be listed, or are nested too deeply.
    """

    path: str
    is_directory: bool = False
    is_unreadable: bool = False


class RootDirectory:
    """A directory that is the root of all paths; a `with` context manager.

    Args:
        path: The directory; it may itself be reached through links.

    Raises:
        OSError: It is none, or cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self._root)

    def open(self, path: str) -> IO[bytes]:
        """Open a regular file.

        Raises:
            OSError: It is missing, not regular, unreadable, or behind too many links.
        """
        return os.fdopen(self._open(path, is_file=True), "rb", buffering=0)

    def walk(self) -> Iterator[Entry]:
        """All entries, and a second time the directories that cannot be listed.

        Directories that are links are not entered: what they lead to is in the image elsewhere.
        """
        pending = ["/"]
        while pending:
            directory = pending.pop()
            try:
                yield from self._list(directory, pending)
            except OSError:
                yield Entry(directory, is_directory=True, is_unreadable=True)

    def _list(self, directory: str, pending: list[str]) -> Iterator[Entry]:
        if directory.count("/") > _MAX_DEPTH:
            raise OSError(errno.ELOOP, "too deep", directory)
        opened = self._open(directory, is_file=False)
        try:
            with os.scandir(opened) as entries:
                for entry in entries:
                    path = f"{directory.rstrip('/')}/{entry.name}"
                    is_directory = entry.is_dir(follow_symlinks=False)
                    yield Entry(path, is_directory)
                    if is_directory and path not in _NOT_OF_THE_IMAGE:
                        pending.append(path)
        finally:
            os.close(opened)

    def _open(self, path: str, *, is_file: bool) -> int:
        """Open what a path leads to inside the root."""
        with contextlib.ExitStack() as closing:
            above, pending, links = [self._root], _parts(path), 0
            while pending:
                name = pending.pop()
                if name == "..":
                    del above[max(1, len(above) - 1) :]
                    continue
                target = _link(name, above[-1])
                if target is None:
                    opened = _open_at(above[-1], name, is_file=is_file and not pending)
                    closing.callback(os.close, opened)
                    above.append(opened)
                    continue
                links += 1
                pending += _parts(target)
                if links > _MAX_LINKS or len(pending) > _MAX_COMPONENTS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                if target.startswith("/"):
                    del above[1:]
            return os.dup(above[-1])


def _parts(path: str) -> list[str]:
    """The components, last first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _link(name: str, directory: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as err:
        if err.errno == errno.EINVAL:
            return None
        raise


def _open_at(directory: int, name: str, *, is_file: bool) -> int:
    if not is_file:
        return os.open(name, _DIRECTORY, dir_fd=directory)
    _check_regular(os.stat(name, dir_fd=directory, follow_symlinks=False), name)
    opened = os.open(name, _FILE, dir_fd=directory)
    try:
        _check_regular(os.fstat(opened), name)
    except BaseException:
        os.close(opened)
        raise
    return opened


def _check_regular(state: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", name)
