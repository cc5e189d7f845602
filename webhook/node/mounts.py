# SPDX-License-Identifier: Apache-2.0
"""Mounts of the kernel: make them, remove them, see which are there.

Rules:
    1. What is mounted by us says so: its source starts with `MARK`, in every mount table.
    2. Flags are never left to a default: nothing of ours has set-uid programs, devices or programs.
    3. A mount that is busy is asked again; detached lazily only when it stays busy, and said so.
    4. The table is that of this thread's mount namespace, which is the one that the calls act on.

Spec: Linux mount(2), umount2(2), proc_pid_mountinfo(5), proc_pid_fdinfo(5).
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = (
    "MARK",
    "Mount",
    "bind",
    "make_read_only",
    "mount_tmpfs",
    "mounted_at",
    "mounts",
    "unmount",
)

_log = logging.getLogger(__name__)

MARK: Final = "kubetls-csi"

_READ_ONLY: Final = 1
_NO_SET_UID: Final = 2
_NO_DEVICES: Final = 4
_NO_PROGRAMS: Final = 8
_REMOUNT: Final = 32
_BIND: Final = 4096
_SAFE: Final = _NO_SET_UID | _NO_DEVICES | _NO_PROGRAMS

_DETACH: Final = 2
_DO_NOT_FOLLOW: Final = 8
_BUSY_ATTEMPTS: Final = 10
_BUSY_SECONDS: Final = 0.02

_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
_libc: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of the table of mounts.

    Attributes:
        number: What distinguishes it from all other mounts.
        place: Where it is mounted.
        kind: Of which file system, such as `tmpfs`.
        source: What its maker called it.
    """

    number: int
    place: Path
    kind: str
    source: str

    @property
    def is_ours(self) -> bool:
        """Whether the node driver made it, this process or one before it."""
        return self.kind == "tmpfs" and self.source.startswith(MARK)


def mounts() -> Iterator[Mount]:
    """All mounts of this namespace, in the order in which they were made."""
    with open("/proc/thread-self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            yield _parse(line)


def mounted_at(descriptor: int) -> int:
    """The number of the mount that an open file or folder belongs to."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("mnt_id:"):
                return int(line.split()[1])
    raise OSError(errno.ENOSYS, "the kernel does not tell the mount of an open file")


def mount_tmpfs(folder: Path, *, name: str, most_bytes: int) -> None:
    """Mount a new tmpfs that only we may enter, and keep it out of swap where the kernel can.

    Args:
        folder: Where.
        name: What follows `MARK` in the mount's source.
        most_bytes: How much it can hold.

    Raises:
        OSError: The kernel refused.
    """
    options = f"mode=0700,size={most_bytes},nr_inodes=4096"
    try:
        _mount(f"{MARK}-{name}", str(folder), "tmpfs", _SAFE, f"{options},noswap")
    except OSError as error:
        if error.errno != errno.EINVAL:  # Linux before 6.4 knows no `noswap`.
            raise
        _mount(f"{MARK}-{name}", str(folder), "tmpfs", _SAFE, options)


def bind(source: Path, place: str) -> None:
    """Show a folder at another place as well; `make_read_only` is the second half.

    Args:
        source: The folder.
        place: An existing folder, `/proc/self/fd/<n>` of it best of all.
    """
    _mount(str(source), place, None, _BIND, None)


def make_read_only(place: str) -> None:
    """Make a bind mount read-only: the kernel takes no flags when it is made."""
    _mount(None, place, None, _REMOUNT | _BIND | _READ_ONLY | _SAFE, None)


def unmount(place: str) -> None:
    """Unmount what is on top at a place, lazily when something keeps it busy.

    Lazily: it vanishes from the tree at once, and its memory when whoever has a file open there
    closes it. That is worse than an error only for what we leave in it, hence: empty it first.

    Raises:
        OSError: Nothing is mounted there, or we may not.
    """
    for _ in range(_BUSY_ATTEMPTS):
        try:
            _unmount(place, _DO_NOT_FOLLOW)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            time.sleep(_BUSY_SECONDS)
        else:
            return
    _log.warning("%s stays busy, a process has a file open in it: detached lazily", place)
    _unmount(place, _DO_NOT_FOLLOW | _DETACH)


def _mount(
    source: str | None, place: str, kind: str | None, flags: int, options: str | None
) -> None:
    texts = [None if text is None else os.fsencode(text) for text in (source, place, kind, options)]
    if _libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]) != 0:
        raise _last_error(place)


def _unmount(place: str, flags: int) -> None:
    if _libc.umount2(os.fsencode(place), flags) != 0:
        raise _last_error(place)


def _last_error(place: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), place)


def _parse(line: str) -> Mount:
    before, _, after = line.partition(" - ")
    number, _, _, _, place = before.split()[:5]
    kind, source = after.split()[:2]
    return Mount(int(number), Path(_unescape(place)), kind, _unescape(source))


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text)
