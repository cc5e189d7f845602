# SPDX-License-Identifier: Apache-2.0
"""Control groups that containers leave behind when the kernel ends them all at once.

Rules:
1. Only groups named after one of our containers are removed, in every hierarchy, and the group
   above them when nobody else has one in it.
2. A group with processes cannot be removed: these are about to end, so it is tried again.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

_ROOT = Path("/sys/fs/cgroup")
_PARENT = "k8s.io"  # containerd's, for the containers of a kubelet.
_SECONDS = 10.0
_PAUSE_SECONDS = 0.02


def remove_groups(containers: Collection[str], root: Path = _ROOT) -> None:
    """Remove the groups of containers whose processes have been killed."""
    deadline = time.monotonic() + _SECONDS
    while groups := find_groups(containers, root):
        for group in groups:
            _remove(group)
        if time.monotonic() > deadline:
            return
        time.sleep(_PAUSE_SECONDS)
    if containers:
        for parent in _parents(root):
            with suppress(OSError):
                parent.rmdir()


def find_groups(containers: Collection[str], root: Path) -> list[Path]:
    """The groups of these containers that are there."""
    return [
        parent / container
        for parent in _parents(root)
        for container in containers
        if (parent / container).is_dir()
    ]


def _parents(root: Path) -> list[Path]:
    """The group of containerd in version 2, or in each hierarchy of version 1."""
    return [each for each in (root / _PARENT, *root.glob(f"*/{_PARENT}")) if each.is_dir()]


def _remove(group: Path) -> None:
    below = [path for path in group.rglob("*") if path.is_dir()]
    for path in sorted(below, reverse=True):  # The deepest first.
        with suppress(OSError):
            path.rmdir()
    with suppress(OSError):
        group.rmdir()
