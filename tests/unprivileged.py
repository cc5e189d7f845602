# SPDX-License-Identifier: Apache-2.0
"""Directories and calls for tests of file permissions, which also work when root runs the tests."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


@contextlib.contextmanager
def reachable_directory() -> Iterator[Path]:
    """A temporary directory that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # noqa: S103 - so that another user can enter it
        yield Path(name).resolve()


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Run the block as nobody when the tests run as root: root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
