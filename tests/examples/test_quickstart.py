# SPDX-License-Identifier: Apache-2.0
"""The quickstart does what its README says, with the commands of the README."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.examples.demo_run import ROOT
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICKSTART = ROOT / "examples" / "quickstart"
COMMANDS = re.findall(r"```sh\n(.*?)```", (QUICKSTART / "README.md").read_text(), re.DOTALL)
INSTALL, ISSUE, SERVE, CALL, ROTATE, CALL_AS_BILLING = COMMANDS
SCREEN = 50


class Terminal:
    """A copy of the quickstart, in which commands of the README are run."""

    def __init__(self, directory: Path) -> None:
        shutil.copytree(QUICKSTART, directory)
        self.directory = directory
        self.port = _free_port()
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ORDERS_URL": f"https://127.0.0.1:{self.port}",
        }

    def run(self, command: str) -> str:
        return subprocess.run(
            ["sh", "-ec", command],
            cwd=self.directory,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    @contextlib.contextmanager
    def running(self, name: str, command: str) -> Iterator[Path]:
        """A command that goes on until Ctrl-C; gives the file with its output."""
        output = self.directory / f"{name}.out"
        command = "exec env " + command.replace("8443", str(self.port))
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["sh", "-c", command],
                cwd=self.directory,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            yield output
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)


@pytest.fixture
def terminal(tmp_path):
    return Terminal(tmp_path / "quickstart")


@pytest.fixture
def orders(terminal):
    """The service, listening; gives its log."""
    terminal.run(ISSUE)
    with terminal.running("orders", SERVE) as log:
        until(lambda: "startup complete" in log.read_text(), timeout=20)
        until(lambda: _is_open(terminal.port))
        yield log


class TestQuickstart:
    """examples/quickstart."""

    def test_web_is_served_and_knows_who_answers(self, terminal, orders):
        """The call is answered, with both identities proven."""
        with terminal.running("web", CALL) as output:
            until(lambda: output.read_text().count("\n") >= 2, timeout=20)
        said = output.read_text()
        assert "200 {'order': '42', 'caller': 'spiffe://example.org/ns/shop/sa/web'}" in said
        assert "from spiffe://example.org/ns/shop/sa/orders, " in said

    def test_ctrl_c(self, terminal, orders):
        """Ctrl-C ends the client without a traceback."""
        with terminal.running("web", CALL) as output:
            until(lambda: "200" in output.read_text(), timeout=20)
        assert "Traceback" not in output.read_text()
        assert "Error" not in output.read_text()

    def test_a_rotation_changes_the_certificate_and_fails_no_call(self, terminal, orders):
        """After `kubetls dev rotate` the same client sees a new certificate, and only 200s."""
        with terminal.running("web", CALL) as output:
            (before,) = until(lambda: _serials(output), timeout=20)
            terminal.run(ROTATE)
            until(lambda: _serials(output) - {before}, timeout=20)
        statuses = re.findall(r"^(\d+) ", output.read_text(), re.MULTILINE)
        assert set(statuses) == {"200"}

    def test_billing_is_denied_and_the_log_says_why(self, terminal, orders):
        """What the policy does not allow is 403, with the caller in the server's log."""
        with terminal.running("billing", CALL_AS_BILLING) as output:
            until(lambda: "403" in output.read_text(), timeout=20)
        until(lambda: "(spiffe://example.org/ns/shop/sa/billing)" in orders.read_text())


class TestReadme:
    """examples/quickstart/README.md."""

    def test_fits_on_one_screen(self):
        """A newcomer reads it without scrolling much."""
        assert len((QUICKSTART / "README.md").read_text().splitlines()) <= SCREEN

    def test_installs_what_exists(self):
        """The path of the first command is the package, and it has these extras."""
        path, extras = re.findall(r"'(.*)\[(.*)\]'", INSTALL)[0]
        project = tomllib.loads((QUICKSTART / path / "pyproject.toml").read_text())["project"]
        assert project["name"] == "kubetls-sdk"
        assert set(extras.split(",")) <= project["optional-dependencies"].keys()


def _serials(output: Path) -> set[str]:
    return set(re.findall(r"sa/orders, ([0-9a-f]+)\n", output.read_text()))


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    return port


def _is_open(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False
