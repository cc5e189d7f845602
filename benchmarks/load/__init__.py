# SPDX-License-Identifier: Apache-2.0
"""The load generator: closed loop, client certificates, one core; built once with the C compiler.

wrk, h2load and oha cannot present a client certificate.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.processes import LOAD_CPU, cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ("Identity", "Load", "Result")

_SOURCE = Path(__file__).with_name("mtls_load.c")
_PROGRAM = Path("build/mtls_load")


@dataclass(frozen=True, slots=True)
class Identity:
    """Paths of the PEM files that the client presents and trusts."""

    authorities: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Result:
    """What one slice of load saw.

    Attributes:
        rate: Requests a second.
        p50: Median latency in microseconds.
        requests: Completed requests.
        own_cpu: Share of one core that the generator itself used; near 1 it is the bottleneck.
        server_cpu: CPU seconds of the servers under test, a request.
        errors: Failed connections and answers other than 200.
    """

    rate: float
    p50: float
    requests: int
    own_cpu: float
    server_cpu: float
    errors: int

    def checked(self) -> Result:
        """Return itself, or raise when anything failed: a slice with errors measures nothing."""
        if self.errors:
            raise RuntimeError(f"{self.errors} of {self.requests} requests failed")
        return self


class Load:
    """Runs slices of load against a port.

    Args:
        identity: What to present; None for plaintext.
    """

    def __init__(self, identity: Identity | None = None) -> None:
        self._identity = identity
        if not _PROGRAM.exists() or _PROGRAM.stat().st_mtime < _SOURCE.stat().st_mtime:
            _build()

    @contextmanager
    def idle(self, port: int, *, connections: int, seconds: float = 30) -> Iterator[None]:
        """Hold connections open that each made one request."""
        command = [*self._command(port, connections, LOAD_CPU), "-I", "-t", str(seconds)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            try:
                if running.stdout is None or not running.stdout.readline().startswith("READY"):
                    raise RuntimeError(f"the load generator did not connect to port {port}")
                yield
            finally:
                running.terminate()

    def run(
        self,
        port: int,
        *,
        connections: int,
        seconds: float,
        new_connections: bool = False,
        pids: Sequence[int] = (),
        cpu: int = LOAD_CPU,
    ) -> Result:
        """Drive one slice and return what it saw, with the CPU time that `pids` took meanwhile."""
        command = [*self._command(port, connections, cpu), "-t", str(seconds), "-W", "0.15"]
        if new_connections:
            command.append("-N")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            lines = running.stdout
            if lines is None or not lines.readline().startswith("START"):
                raise RuntimeError(f"the load generator did not start on port {port}")
            before = sum(map(cpu_seconds, pids))
            report = json.loads(lines.readline())
            spent = sum(map(cpu_seconds, pids)) - before
        return _result(report, spent)

    def _command(self, port: int, connections: int, cpu: int) -> list[str]:
        command = ["taskset", "-c", str(cpu), str(_PROGRAM.resolve())]
        command += ["-p", str(port), "-c", str(connections)]
        if self._identity is not None:
            who = self._identity
            command += ["-s", str(who.authorities), "-C", str(who.certificate), "-K", str(who.key)]
        return command


def _build() -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit(
            "the load generator needs a C compiler and OpenSSL's headers:"
            " apt-get install gcc libssl-dev"
        )
    _PROGRAM.parent.mkdir(exist_ok=True)
    built = subprocess.run(
        [compiler, "-O2", "-o", str(_PROGRAM), str(_SOURCE), "-lssl", "-lcrypto"],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise SystemExit(
            f"the load generator does not build (apt-get install libssl-dev?):"
            f"\n{built.stderr[-600:]}"
        )


def _result(report: dict[str, float], spent: float) -> Result:
    if "n" not in report:
        raise RuntimeError(f"the load generator got no answer: {report}")
    return Result(
        rate=report["rps"],
        p50=report["p50_us"],
        requests=int(report["n"]),
        own_cpu=report["lg_cpu"] / report["secs"],
        server_cpu=spent / report["n"],
        errors=int(report["errs"] + report["non200"]),
    )
