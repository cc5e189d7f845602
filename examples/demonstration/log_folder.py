# SPDX-License-Identifier: Apache-2.0
"""The folder of a run's logs, which one run has to itself as long as it goes on."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from examples.demonstration.child import DemoError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ("log_folder",)


@contextmanager
def log_folder(folder: Path) -> Iterator[Path]:
    """Make it, and keep other runs from writing there until the end of the block.

    Raises:
        DemoError: Another run has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY)
    try:
        _lock(held, folder)
        yield folder
    finally:
        os.close(held)


def _lock(held: int, folder: Path) -> None:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as err:
        raise DemoError(
            f"another run goes on and writes to {folder}: end it with Ctrl-C, or give this one a"
            " folder of its own with --build"
        ) from err
