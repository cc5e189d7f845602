# SPDX-License-Identifier: Apache-2.0
"""The gRPC example does what its README says, with the commands of the README."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys

import pytest

from tests.examples.demo_run import ROOT
from tests.waiting import until

EXAMPLE = ROOT / "examples" / "grpc"
COMMANDS = re.findall(r"```sh\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
INSTALL, GENERATE, ISSUE, SERVE, CALL, ROTATE, CALL_AS_BILLING = COMMANDS


class Terminal:
    """A copy of the example, in which commands of the README are run."""

    def __init__(self, directory):
        shutil.copytree(EXAMPLE, directory)
        self.directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        programs = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": programs, "PORT": str(port)}
        self.environment["PYTHONPATH"] = str(ROOT)

    def run(self, command):
        subprocess.run(
            ["sh", "-ec", command], cwd=self.directory, env=self.environment, check=True,
            capture_output=True,
        )  # fmt: skip

    @contextlib.contextmanager
    def running(self, name, command):
        """A command that goes on; gives the file with its output."""
        output = self.directory / f"{name}.out"
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["sh", "-c", f"exec env {command}"], cwd=self.directory, env=self.environment,
                stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            yield output
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def terminal(tmp_path):
    made = Terminal(tmp_path / "grpc")
    made.run(GENERATE)
    made.run(ISSUE)
    return made


def lines_of(output):
    return [line for line in output.read_text().splitlines() if "certificate" in line]


def test_calls_across_a_rotation(terminal):
    """The caller is known, a rotation shows as another certificate, and no call fails."""
    with terminal.running("orders", SERVE), terminal.running("web", CALL) as output:
        until(lambda: any("sent" in line for line in lines_of(output)), timeout=20)
        first = next(line for line in lines_of(output) if "sent" in line)
        assert first.startswith("spiffe://example.org/ns/shop/sa/web with certificate")
        seen = len(lines_of(output))
        terminal.run(ROTATE)
        until(lambda: lines_of(output)[-1] != first, timeout=20)
        until(lambda: len(lines_of(output)) > seen + 1, timeout=20)
        after = lines_of(output)[seen:]
        assert all(line.endswith("paid, packed, sent") for line in after)


def test_denied(terminal):
    """Another workload is denied, and the server's log says why."""
    with (
        terminal.running("orders", SERVE) as log,
        terminal.running("billing", CALL_AS_BILLING) as output,
    ):
        until(lambda: "PERMISSION_DENIED" in output.read_text(), timeout=20)
        until(lambda: "no-rule-for-caller" in log.read_text(), timeout=20)


def test_install():
    """The README installs what the example imports."""
    assert "[grpc]" in INSTALL
