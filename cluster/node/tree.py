# SPDX-License-Identifier: Apache-2.0
"""File trees for images, taken from this machine: a busybox, and this Python with packages.

Rules:
1. Files of the interpreter and of the system's libraries keep their absolute paths, so that
   nothing in them has to be relocated.
2. Packages are in `/app`, the only entry of PYTHONPATH; commands are in `/usr/bin`, `python3` too.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cluster.node.image import Link, Script
from cluster.node.tools import find_tools

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cluster.node.image import Tree

APP = "/app"
PYTHON_ENVIRONMENT = {"PYTHONPATH": APP, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
_APPLETS = ("sh", "cat", "ls", "sleep", "wget", "nc", "stat", "id", "env", "mount", "ip", "true")
_LEFT_OUT = {"__pycache__", "site-packages", "test", "tests"}
# Of the standard library, and of nothing else: `anyio` has a module `_testing`.
_UNUSED = (
    *("idlelib", "tkinter", "ensurepip", "lib2to3", "turtledemo"),
    *("config-", "_tkinter", "_test", "_ctypes_test", "xxlimited"),
)
_LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x")


def busybox_tree() -> dict[str, Path | bytes | Link]:
    """A static busybox with some of its commands as links."""
    links = {f"/bin/{applet}": Link("busybox") for applet in _APPLETS}
    return {"/bin/busybox": find_tools().busybox, **links}


def python_command() -> list[str]:
    """The interpreter in an image with `python_tree`."""
    return [str(_interpreter())]


def python_tree(requirements: Sequence[str], packages: Iterable[Path]) -> Tree:
    """This interpreter, installed distributions with all they need, and package folders.

    Args:
        requirements: Installed distributions, with extras: `kubetls-sdk[asgi]`.
        packages: Folders of packages that are not installed, or installed as editable.
    """
    library = Path(sysconfig.get_path("stdlib"))
    tree: dict[str, Path | bytes | Script | Link] = {str(_interpreter()): _interpreter()}
    tree["/usr/bin/python3"] = Link(str(_interpreter()))
    tree |= {str(path): path for path in _files(library) if not _is_unused(path, library)}
    for folder in packages:
        tree |= {f"{APP}/{p.relative_to(folder.parent)}": p for p in _files(folder)}
    for name in sorted(closure(requirements)):
        tree |= dict(_distribution_files(name))
    for requirement in requirements:
        tree |= dict(_commands(Requirement(requirement).name))
    native = [path for path in tree.values() if isinstance(path, Path) and ".so" in path.name]
    tree |= {str(path): path for path in _libraries([_interpreter(), *native])}
    return tree


def closure(requirements: Iterable[str]) -> set[str]:
    """Names of distributions that the requirements mean, on this machine, with all they need."""
    waiting = [Requirement(each) for each in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key not in seen:
            seen.add(key)
            waiting += _needs(requirement)
    return {name for name, _ in seen}


def _needs(requirement: Requirement) -> Iterator[Requirement]:
    for text in distribution(requirement.name).requires or ():
        needed = Requirement(text)
        marker = needed.marker
        if marker is None or any(
            marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
        ):
            yield needed


def _distribution_files(name: str) -> Iterator[tuple[str, Path]]:
    found = distribution(name)
    for file in found.files or ():
        path = Path(str(found.locate_file(file)))
        if ".." not in file.parts and _is_wanted(file.parts) and path.is_file():
            yield f"{APP}/{file}", path


def _commands(name: str) -> Iterator[tuple[str, Script]]:
    """What an installer would put into its folder of commands."""
    for entry in distribution(name).entry_points.select(group="console_scripts"):
        call = f"import sys, {entry.module}\nsys.exit({entry.module}.{entry.attr}())"
        yield f"/usr/bin/{entry.name}", Script(f"#!{_interpreter()}\n{call}\n")


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and _is_wanted(path.relative_to(folder).parts):
            yield path


def _is_wanted(parts: Iterable[str]) -> bool:
    return not any(part in _LEFT_OUT for part in parts)


def _is_unused(path: Path, library: Path) -> bool:
    return any(part.startswith(_UNUSED) for part in path.relative_to(library).parts)


def _interpreter() -> Path:
    return (Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}").resolve()


def _libraries(programs: Sequence[Path]) -> set[Path]:
    """Shared libraries, and the loader, at the paths under which they are looked for."""
    command = ["ldd", *map(str, programs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return {Path(each) for each in _LIBRARY.findall(done.stdout)}
