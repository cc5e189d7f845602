# SPDX-License-Identifier: Apache-2.0
"""The programs of the operating system that a real node needs."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from cluster.exceptions import ProgramMissingError

_PROGRAMS = ("containerd", "ctr", "runc", "unshare", "nsenter", "mount")
_PATH = os.pathsep.join(
    [os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"]
)
_NETWORK_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
_NETWORK_PLUGINS = ("ptp", "host-local", "loopback")
_STATIC_BUSYBOX = (Path("/bin/busybox"), Path("/usr/bin/busybox"))
_INTERPRETER = b"ld-linux"
_ADVICE = (
    "On Debian or Ubuntu: apt-get install containerd runc containernetworking-plugins"
    " busybox-static util-linux"
)


class Tools(NamedTuple):
    """Where the programs are."""

    containerd: Path
    ctr: Path
    runc: Path
    unshare: Path
    nsenter: Path
    network_plugins: Path
    busybox: Path


def find_tools() -> Tools:
    """Find all of them.

    Raises:
        ProgramMissingError: Some are missing, or this is not Linux, or we are not root; the
            message names all that is missing at once and how to get it.
    """
    _check_rights()
    found = {name: shutil.which(name, path=_PATH) for name in _PROGRAMS}
    plugins = next((each for each in _NETWORK_FOLDERS if _has_plugins(each)), None)
    busybox = next((each for each in _STATIC_BUSYBOX if _is_static(each)), None)
    missing = [name for name, path in found.items() if path is None]
    missing += [] if plugins else ["the network plugins " + ", ".join(_NETWORK_PLUGINS)]
    missing += [] if busybox else ["a static busybox"]
    if missing or plugins is None or busybox is None:
        raise ProgramMissingError(f"A real node needs {'; '.join(missing)}. {_ADVICE}")
    paths = {name: Path(path) for name, path in found.items() if path and name != "mount"}
    return Tools(**paths, network_plugins=plugins, busybox=busybox)


def _check_rights() -> None:
    if sys.platform != "linux":
        raise ProgramMissingError("A real node runs on Linux only; hollow nodes run anywhere.")
    if os.geteuid() != 0:
        raise ProgramMissingError("A real node needs root; hollow nodes need no rights.")


def _has_plugins(folder: Path) -> bool:
    return all((folder / plugin).is_file() for plugin in _NETWORK_PLUGINS)


def _is_static(path: Path) -> bool:
    return path.is_file() and _INTERPRETER not in path.read_bytes()[:4096]
