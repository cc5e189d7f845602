# SPDX-License-Identifier: Apache-2.0
"""What belongs to one process: a forked child has its memory, and none of its threads.

Who follows something in a thread would go deaf in the child, and trust for ever what was removed;
so it disowns itself there. Each process makes its own.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ("Owned", "disown_in_children")


class Owned(Protocol):
    """What belongs to the process that started it."""

    def _disown(self) -> None:
        """In a forked child: take new locks, forget threads and what they followed."""


_owned: weakref.WeakSet[Owned] = weakref.WeakSet()


def disown_in_children(owned: Owned) -> None:
    """Disown it in each process that is forked from this one."""
    _owned.add(owned)


def _disown_all() -> None:
    for each in list(_owned):
        each._disown()  # noqa: SLF001 - nobody else is to call it


os.register_at_fork(after_in_child=_disown_all)
