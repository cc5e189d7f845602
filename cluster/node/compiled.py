# SPDX-License-Identifier: Apache-2.0
"""The compiled forms of an image's modules: with a read-only root they are made at each start.

Rules:
1. What was compiled stays in the build folder, and is compiled again when its source has changed.
"""

from __future__ import annotations

import py_compile
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import binaries

if TYPE_CHECKING:
    from cluster.node.image import Link, Script, Tree

_FOLDER = binaries.ROOT / "build" / "cluster" / "compiled"


def compiled(tree: Tree, folder: Path = _FOLDER) -> Tree:
    """A tree with the compiled form of each of its modules.

    Args:
        tree: Files of this machine are the ones that are looked at.
        folder: Keeps what was compiled.
    """
    made: dict[str, Path | bytes | Script | Link] = dict(tree)
    for name, source in tree.items():
        if name.endswith(".py") and isinstance(source, Path):
            target = folder / cache_from_source(name).lstrip("/")
            if _is_current(target, source) or _compile(name, source, target):
                made[cache_from_source(name)] = target
    return made


def _is_current(target: Path, source: Path) -> bool:
    return target.is_file() and target.stat().st_mtime_ns > source.stat().st_mtime_ns


def _compile(name: str, source: Path, target: Path) -> bool:
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    try:
        py_compile.compile(
            str(source), cfile=str(target), dfile=name, doraise=True, invalidation_mode=mode
        )
    except py_compile.PyCompileError:
        return False
    return True
