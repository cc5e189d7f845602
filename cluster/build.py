# SPDX-License-Identifier: Apache-2.0
"""Build the programs of the cluster from their Go modules, once.

Rules:
1. A program is up to date when its stamp is the hash of sources, versions and flags.
2. go.mod and go.sum are read only: what is built is what was committed.
3. A program appears under its name only when it is complete; two builds do not meet.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cluster.binaries import BUILD_FOLDER, BUILT_FOLDER, in_assets
from cluster.exceptions import ClusterError
from cluster.go import MODULE, find_go

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_VERSION_PACKAGE = "k8s.io/component-base/version"
_PACKAGES = {
    "csi-sanity": "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity",
    "helm": "helm.sh/helm/v4/cmd/helm",
}
_TERMINAL_SECONDS, _LOG_SECONDS = 1.0, 20.0
# What would build for another machine, or otherwise than the stamp says.
_NOT_INHERITED = {"GOOS", "GOARCH", "GOAMD64", "GOARM64", "GOEXPERIMENT", "GOFIPS140"}
_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly", "GOWORK": "off"}


def build(programs: Sequence[str]) -> None:
    """Build what is not up to date and not in `KUBEBUILDER_ASSETS`.

    Raises:
        ProgramMissingError: Go is missing or too old.
        ClusterError: The compiler failed; the message ends with what it said.
    """
    wanted = [each for each in programs if in_assets(each) is None]
    with _alone():
        stale = [each for each in wanted if not is_current(each)]
        if not stale:
            return
        go = find_go()
        _say(f"Building {', '.join(stale)}: some minutes the first time, seconds later.")
        for program in stale:
            _build_one(go, program)


def is_current(program: str) -> bool:
    """Whether the built program is the one of the committed sources."""
    stamp = _stamp_file(program)
    is_there = (BUILT_FOLDER / program).exists() and stamp.exists()
    return is_there and stamp.read_text() == stamp_of(program)


def stamp_of(program: str) -> str:
    """The hash of everything that decides what a program becomes."""
    digest = hashlib.sha256(repr((flags(), _ENVIRONMENT, package(program))).encode())
    for path in sources(program):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def module(program: str) -> Path:
    """The Go module that pins a program: its own where it has one, else the one of Kubernetes."""
    own = MODULE / program
    return own if (own / "go.mod").exists() else MODULE


def sources(program: str) -> list[Path]:
    """The committed files that a program is built from."""
    pinned = [module(program) / name for name in ("go.mod", "go.sum")]
    return [*pinned, *sorted((MODULE / program).glob("*.go"))]


def package(program: str) -> str:
    """The Go package of a program: ours when we have it, else its makers'."""
    if program in _PACKAGES:
        return _PACKAGES[program]
    is_ours = (MODULE / program).is_dir()
    return f"./{program}" if is_ours else f"k8s.io/kubernetes/cmd/{program}"


def version(go_mod: str) -> str:
    """The version of Kubernetes that go.mod names, `vX.Y.Z`."""
    line = next(each for each in go_mod.splitlines() if "k8s.io/kubernetes v" in each)
    return line.split()[-1]


def flags() -> list[str]:
    """The compiler's flags; the programs must know their version, for the feature gates."""
    full = version((MODULE / "go.mod").read_text())
    major, minor, _ = full.removeprefix("v").split(".")
    values = {"gitVersion": full, "gitMajor": major, "gitMinor": minor}
    settings = " ".join(f"-X {_VERSION_PACKAGE}.{key}={value}" for key, value in values.items())
    return ["-trimpath", "-ldflags", f"-s -w {settings}"]


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The compiler's environment: nothing inherited changes what is built."""
    kept = {name: value for name, value in inherited.items() if name not in _NOT_INHERITED}
    if not kept.get("HOME"):  # Go keeps its caches there, and does not begin without.
        caches = {"GOCACHE": str(BUILD_FOLDER / "go-cache"), "GOPATH": str(BUILD_FOLDER / "go")}
        kept = {**caches, **kept}
    return {**kept, **_ENVIRONMENT}


def _build_one(go: Path, program: str) -> None:
    partial = BUILT_FOLDER / f".{program}.partial"
    command = [str(go), "build", "-v", *flags(), "-o", str(partial), package(program)]
    log = BUILT_FOLDER / f"{program}.build.log"
    start = time.monotonic()
    with log.open("w+") as output:
        process = subprocess.Popen(  # noqa: S603 - the compiler that was found
            command, cwd=module(program), env=environment(os.environ), stdout=output, stderr=output
        )
        try:
            _watch(process, program, log, start)
        finally:
            process.terminate()
    if process.wait():
        tail = "\n".join(log.read_text().splitlines()[-15:])
        raise ClusterError(f"building {program} failed; the end of {log}:\n{tail}")
    partial.replace(BUILT_FOLDER / program)
    _stamp_file(program).write_text(stamp_of(program))
    _say(f"{program}: built in {time.monotonic() - start:.0f} s")


def _watch(process: subprocess.Popen[bytes], program: str, log: Path, start: float) -> None:
    """Show progress until the compiler ends."""
    pause = _TERMINAL_SECONDS if sys.stderr.isatty() else _LOG_SECONDS
    while True:
        try:
            process.wait(pause)
        except subprocess.TimeoutExpired:
            done = progress(log.read_text())
            _say(f"{program}: {done}, {time.monotonic() - start:.0f} s", is_passing=True)
        else:
            return


def progress(output: str) -> str:
    """What the compiler has said so far, in numbers."""
    lines = output.splitlines()
    fetched = sum(line.startswith("go: downloading") for line in lines)
    compiled = sum(not line.startswith(("go: ", "#")) for line in lines)
    return f"{fetched} modules fetched, {compiled} packages compiled"


def _say(text: str, *, is_passing: bool = False) -> None:
    """One line on standard error; on a terminal, the next one takes a passing one's place."""
    is_terminal = sys.stderr.isatty()
    start, end = ("\r\033[K" if is_terminal else ""), ("" if is_terminal and is_passing else "\n")
    sys.stderr.write(f"{start}{text}{end}")
    sys.stderr.flush()


def _stamp_file(program: str) -> Path:
    return BUILT_FOLDER / f".{program}.stamp"


@contextmanager
def _alone() -> Iterator[None]:
    """Wait for another build of the same folder."""
    BUILT_FOLDER.mkdir(parents=True, exist_ok=True)
    with (BUILT_FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
