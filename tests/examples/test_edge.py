# SPDX-License-Identifier: Apache-2.0
"""The picture of the edge succeeds, fails when a check is switched off, and leaves nothing."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from examples.demonstration.log_folder import log_folder
from tests.examples.edge_run import ROOT, EdgeRun, start_edge
from tests.examples.process_tree import children_of
from tests.examples.sabotaged_runs import running
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SABOTAGES = {
    "no_domain_check": {"the external API's name, signed by the partner's CA"},
    "no_policy": {
        "alice in a browser: bob's orders",
        "alice's orders, by billing with her token",
        "billing's figures, on the outside face with its certificate",
        "the courier: /catalogue",
    },
    "no_token_expiry": {"bob's orders, with an expired token"},
    "no_signature_check": {
        "bob's orders, with a token with another user written into it",
        "bob's orders, with a token signed by another key",
    },
    "no_route_check": {"alice in a browser: an order of bob's"},
    "no_partner_removal": {
        "the partner is removed: its connection from before",
        "the partner is removed: a new connection",
        "the partner is removed: in effect",
        "the courier is revoked: a new connection",
    },
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], EdgeRun]]:
    """All runs of this file, two at a time; the result of each when it is asked for."""
    with running(EdgeRun.of, SABOTAGES, tmp_path_factory) as found:
        yield found


class TestEdge:
    """`python -m examples.edge`."""

    def test_succeeds(self, runs):
        """Every outcome is the expected one, and the exit status says so."""
        run = runs("right")
        assert (run.status, run.wrong()) == (0, {}), run.output

    def test_document_has_the_promised_shape(self, runs):
        """build/demo-edge.json has exactly the fields that others read."""
        document = runs("right").document
        assert list(document) == ["cases", "seconds_to_effect", "ok"]
        assert all(list(case) == ["name", "expected", "observed"] for case in document["cases"])
        assert list(document["seconds_to_effect"]) == ["partner_removed", "courier_revoked"]
        assert all(0 < seconds < 1 for seconds in document["seconds_to_effect"].values())
        assert document["ok"] is True

    def test_each_case_is_there_once(self, runs):
        """Everybody of the picture calls, and every sabotage has a case that notices it."""
        names = [case["name"] for case in runs("right").document["cases"]]
        assert len(set(names)) == len(names)
        assert set().union(*SABOTAGES.values()) <= set(names)

    def test_prints_plain_text_without_a_terminal(self, runs):
        """No escape sequence, no carriage return: a log of CI stays readable."""
        output = runs("right").output
        assert "Partners no more" in output
        assert "\x1b" not in output
        assert "\r" not in output

    def test_leaves_no_key_behind(self, runs):
        """What was issued is gone from the disk; neither a key nor a token is in a log."""
        run = runs("right")
        assert not list((run.build / "keys").iterdir())
        logs = {log.name: log.read_text() for log in run.build.rglob("*log*/*")}
        assert {"external.log", "internal-audit.jsonl"} <= logs.keys()
        assert not [name for name, text in logs.items() if re.search(r"PRIVATE KEY|eyJ", text)]

    @pytest.mark.parametrize("sabotage", SABOTAGES)
    def test_fails_without(self, runs, sabotage):
        """With a check switched off in both APIs, the demo says so and does not exit 0."""
        run = runs(sabotage)
        assert run.status == 1, run.output
        assert SABOTAGES[sabotage] <= run.wrong().keys(), run.output
        assert run.document["ok"] is False

    def test_says_which_port_is_taken(self, tmp_path):
        """A person reads which port it is and how to choose another."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            run = EdgeRun.of(tmp_path, "--port", str(port))
        assert run.status == 1
        assert f"FAILED: port {port} is taken" in run.output
        assert "--port" in run.output
        assert "Traceback" not in run.output

    def test_says_which_ports_there_are(self, tmp_path):
        """A number that is no port is refused before anything starts, without a traceback."""
        run = EdgeRun.of(tmp_path, "--port", "99999")
        assert (run.status, "Traceback" in run.output) == (2, False)
        assert "expected a number from 0 to 65535, got '99999'" in run.output

    def test_leaves_the_logs_of_another_run_alone(self, tmp_path):
        """A page that is open reads the audit logs: a second run is told so, and writes nothing."""
        logs = tmp_path / "demo-edge-logs"
        with log_folder(logs):
            (logs / "external-audit.jsonl").write_text("of the first run")
            run = EdgeRun.of(tmp_path)
        assert run.status == 1
        assert f"FAILED: another run goes on and writes to {logs}" in run.output
        assert [log.read_text() for log in logs.iterdir()] == ["of the first run"]

    def test_says_why_the_server_does_not_start(self, tmp_path):
        """A newcomer sees what the server said, not a traceback of the demo."""
        script = "import sys; sys.exit('no policy today')"
        run = EdgeRun.of(tmp_path, "--server-command", f'{sys.executable} -c "{script}"')
        assert run.status == 1
        assert "no policy today" in run.output
        assert "Traceback" not in run.output

    def test_says_what_is_not_installed(self):
        """Run by a Python without the packages, it points to the command that installs them."""
        command = [sys.executable, "-S", "-m", "examples.edge"]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
        assert run.returncode == 1
        assert re.fullmatch(
            r"The demo needs '\w+', which is not installed here: run `make demo-edge`\.\n",
            run.stderr,
        )

    @pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
    @pytest.mark.parametrize("moment", ["Partners call", "Open https://localhost:"])
    def test_ends_everything_when_interrupted(self, tmp_path, number, moment):
        """Under way or open to a browser: no process and no key stays behind a signal."""
        process = start_edge(tmp_path, "--serve", "--port", "0")
        log = tmp_path / "output"
        until(lambda: moment in log.read_text(), timeout=60)
        children = children_of(process.pid)
        assert len(children) >= 4
        process.send_signal(number)
        # Under way that is an interruption; open, it is how a person ends it.
        expected = (0, "OK: closed") if "Open" in moment else (130, "FAILED: interrupted")
        assert (process.wait(30), log.read_text().splitlines()[-1][: len(expected[1])]) == expected
        assert "Traceback" not in log.read_text()
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
        assert not list((tmp_path / "keys").iterdir())


class TestReadme:
    """`examples/edge/README.md`."""

    TEXT = (ROOT / "examples" / "edge" / "README.md").read_text()

    def test_fits_a_screen(self):
        """One screen, which is fifty lines."""
        assert len(self.TEXT.splitlines()) <= 50

    def test_names_files_that_are_there(self):
        """Each file in its table exists."""
        cells = "".join(re.findall(r"^\| (`.*?) \|", self.TEXT, re.M))
        names = re.findall(r"`([^`]+)`", cells)
        assert len(names) > 10
        assert not [name for name in names if not list((ROOT / "examples" / "edge").glob(name))]

    @pytest.mark.parametrize("command", re.findall(r"^\$ (make .*?)  +#", TEXT, re.M))
    def test_commands_run_the_example(self, command):
        """Each command is a target of the Makefile, with the options that the program knows."""
        made = subprocess.run(
            [*command.split(), "-n"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        options = re.search(r"-m examples\.edge(.*)", made.stdout)[1].split()
        assert options == (["--serve"] if "SERVE=1" in command else [])
