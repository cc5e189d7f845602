# SPDX-License-Identifier: Apache-2.0
"""One consistent read of the files of a directory that somebody else rewrites at any time.

Rules:
    1. The kubelet's `..data` link is resolved once; all files come from the directory it named.
    2. Each file is opened and read once; a change during the read discards all of it.
    3. Only regular files of at most `MAX_FILE_BYTES`: a FIFO, a device or a huge file cannot stall.
    4. "Cannot be read now" and "is not there" are different answers: trust depends on it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubetls_sdk.exceptions import VolumeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ("DATA_LINK", "MAX_FILE_BYTES", "DirectoryRead", "identity", "read_directory")

DATA_LINK = "..data"
"""The link that the kubelet swaps by rename when the content of a volume changes."""
MAX_FILE_BYTES = 4 * 1024 * 1024
_ATTEMPTS = 10
_SHOWN_NAMES = 12
_Stats = dict[str, tuple[int, int, int] | None]


@dataclass(frozen=True, slots=True)
class DirectoryRead:
    """What one directory held at one moment.

    Attributes:
        path: The directory as it was asked for.
        names: All names in it, sorted; the kubelet's own dotted entries apart.
        files: Content, or the error that kept it from being read, by selected name.
        is_linked: It has a `..data` link: whoever writes it does so atomically.
    """

    path: str
    names: tuple[str, ...]
    files: Mapping[str, bytes | VolumeError]
    is_linked: bool

    @property
    def is_blank(self) -> bool:
        """Nothing at all is there, which is what the mount point of a lost volume looks like."""
        return not self.names and not self.is_linked

    def listing(self) -> str:
        """The names for a message: at most a dozen."""
        return _listing(self.names)


def read_directory(path: str, *, select: Callable[[str], bool]) -> DirectoryRead:
    """Read the selected files of a directory as they were at one moment.

    Args:
        path: A directory, with or without a `..data` link.
        select: Tells by its name whether a file is wanted.

    Raises:
        VolumeError: The directory is missing or unreadable, its `..data` link is missing while
            an update is under way, or it did not come to rest.
    """
    for _ in range(_ATTEMPTS):
        with _opened(path) as (directory, is_linked):
            names = _names(path, directory)
            selected = [name for name in names if select(name)]
            before = _stats(directory, selected)
            files = {name: _read(path, directory, name) for name in selected}
            at_rest = before == _stats(directory, selected) and _is_current(path, directory, names)
        if at_rest:
            return DirectoryRead(path, names, files, is_linked)
    raise VolumeError(f"expected files at rest, got {_ATTEMPTS} changes while reading", path=path)


def identity(path: str) -> tuple[object, ...]:
    """What tells one state of a directory from the next cheaply: its inode and its `..data`."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    try:
        link = os.readlink(os.path.join(path, DATA_LINK))
    except OSError:
        link = ""
    return found.st_dev, found.st_ino, link


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[int, bool]]:
    directory, is_linked = _open_data(path)
    try:
        yield directory, is_linked
    finally:
        os.close(directory)


def _open_data(path: str) -> tuple[int, bool]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        root = os.open(path, flags)
    except OSError as err:
        raise _directory_error(path, err) from err
    try:
        return os.open(DATA_LINK, flags, dir_fd=root), True
    except FileNotFoundError:
        if any(name.startswith("..") for name in _listdir(path, root)):
            raise VolumeError(f"expected the link {DATA_LINK!r}, got none", path=path) from None
        return os.dup(root), False
    except OSError as err:
        raise _file_error(os.path.join(path, DATA_LINK), err) from err
    finally:
        os.close(root)


def _listdir(path: str, directory: int) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError as err:
        raise _directory_error(path, err) from err


def _names(path: str, directory: int) -> tuple[str, ...]:
    return tuple(sorted(n for n in _listdir(path, directory) if not n.startswith("..")))


def _stats(directory: int, names: list[str]) -> _Stats:
    found: _Stats = {}
    for name in names:
        try:
            state = os.stat(name, dir_fd=directory)
            found[name] = (state.st_ino, state.st_size, state.st_mtime_ns)
        except OSError:
            found[name] = None
    return found


def _is_current(path: str, directory: int, names: tuple[str, ...]) -> bool:
    """Tell whether the path still leads to the directory that was read, with the same names."""
    with _opened(path) as (now, _):
        return os.path.samestat(os.fstat(now), os.fstat(directory)) and names == _names(path, now)


def _read(path: str, directory: int, name: str) -> bytes | VolumeError:
    full = os.path.join(path, name)
    try:
        _check_regular(os.stat(name, dir_fd=directory), full)
        # The kind may change between the two calls: O_NONBLOCK keeps a FIFO from blocking.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        with open(os.open(name, flags, dir_fd=directory), "rb") as file:
            _check_regular(os.fstat(file.fileno()), full)
            return _bounded(file.read(MAX_FILE_BYTES + 1), full)
    except VolumeError as err:
        return err
    except OSError as err:
        return _file_error(full, err)


def _check_regular(state: os.stat_result, full: str) -> None:
    if not stat.S_ISREG(state.st_mode):
        kind = stat.filemode(state.st_mode)
        raise VolumeError(f"expected a regular file, got one of mode {kind!r}", path=full)


def _bounded(content: bytes, full: str) -> bytes:
    if len(content) > MAX_FILE_BYTES:
        raise VolumeError(f"expected at most {MAX_FILE_BYTES} bytes, got more", path=full)
    return content


def _directory_error(path: str, err: OSError) -> VolumeError:
    if isinstance(err, FileNotFoundError):
        parent = os.path.dirname(path)
        while parent != os.path.dirname(parent) and not os.path.isdir(parent):
            parent = os.path.dirname(parent)
        return VolumeError(
            f"expected a directory, got nothing there; {parent!r} has {_contents(parent)}",
            path=path,
        )
    if isinstance(err, NotADirectoryError):
        return VolumeError("expected a directory, got a file", path=path)
    return _file_error(path, err)


def _contents(path: str) -> str:
    try:
        return _listing(sorted(os.listdir(path)))
    except OSError:
        return "unreadable content"


def _listing(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN_NAMES])) or "nothing"
    rest = len(names) - _SHOWN_NAMES
    return f"{shown} and {rest} more" if rest > 0 else shown


def _file_error(full: str, err: OSError) -> VolumeError:
    if isinstance(err, PermissionError):
        return VolumeError(_permission_message(full), path=full)
    if isinstance(err, FileNotFoundError):
        return VolumeError("expected a file, got a link that leads nowhere", path=full)
    return VolumeError(f"cannot be read: {err.strerror or type(err).__name__}", path=full)


def _permission_message(full: str) -> str:
    groups = sorted({os.getegid(), *os.getgroups()})
    process = f"this process runs as uid {os.geteuid()}, groups {groups}"
    blocker = _innermost_visible(full)
    if blocker is None:
        return f"permission denied: {process}"
    place, state = blocker
    what = "" if place == full else f" on {place!r}"
    return (
        f"permission denied{what}: owner uid {state.st_uid}, gid {state.st_gid},"
        f" mode {stat.S_IMODE(state.st_mode):04o}; {process}; {_remedy(state)}"
    )


def _innermost_visible(full: str) -> tuple[str, os.stat_result] | None:
    """The file itself, or the closest directory above it, whose owner we may see."""
    place = full
    while True:
        try:
            return place, os.stat(place)
        except OSError:
            if place == os.path.dirname(place):
                return None
            place = os.path.dirname(place)


def _remedy(state: os.stat_result) -> str:
    """What to set in the pod; never "run as root"."""
    if stat.S_ISDIR(state.st_mode):
        return "set securityContext.fsGroup in the pod; a CSI driver may need its own attribute"
    if stat.S_IMODE(state.st_mode) & stat.S_IRGRP:
        remedy = "set securityContext.fsGroup in the pod, so that the group may read it"
    else:
        remedy = "set the volume's defaultMode to 0440 and securityContext.fsGroup in the pod"
    if state.st_uid == 0:
        return remedy
    return f"{remedy}, or securityContext.runAsUser: {state.st_uid}"
