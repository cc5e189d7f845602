# SPDX-License-Identifier: Apache-2.0
"""The partner example does what its README says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from examples.demonstration import conduct
from examples.demonstration.case import Case
from examples.demonstration.child import DemoError
from examples.demonstration.interruption import Interruption
from examples.partner import __main__ as example
from tests.examples.demo_run import ROOT

FOLDER = ROOT / "examples" / "partner"
README = (FOLDER / "README.md").read_text()
SCREEN = 50
REMOVED = "ok the partner's shop, when its entry is removed 200, then refused within a second"
FORGED = "ok our web, forged by the partner's CA refused"
GUEST = "ok the partner's guest, for whom there is no rule 403"
READS = "ok the partner's shop reads an order 200"
OUTCOMES = {
    "files": ["ok the partner's shop, before refused", READS, GUEST, FORGED, REMOVED],
    "endpoint": [
        READS, "ok the partner's shop, under the partner's new root 200", FORGED, REMOVED,
    ],
    "cross-sign": [READS, GUEST, FORGED, REMOVED],
    "issue": [
        "ok acme delivers 201", "ok acme reads an order, for which there is no rule 403",
        "ok acme delivers, revoked refused",
    ],
}  # fmt: skip


def run(*ways, folder):
    done = subprocess.run(
        [sys.executable, "-m", "examples.partner", *ways],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.returncode, done.stdout + done.stderr


class TestWays:
    @pytest.mark.timeout(120)
    @pytest.mark.parametrize("way", OUTCOMES)
    def test_outcomes(self, way, tmp_path):
        """Real processes: who gets in, who is refused, and that removal is quick."""
        status, output = run(way, folder=tmp_path)
        rows = [re.sub(r"\s+", " ", line).strip() for line in output.splitlines()]
        assert [row for row in rows if row.startswith(("ok ", "NO "))] == OUTCOMES[way], output
        assert status == 0
        assert list(tmp_path.iterdir()) == [], "something was left behind"

    def test_all_are_tested(self):
        """No way is left out."""
        assert list(OUTCOMES) == list(example._WAYS)


class TestMain:
    @pytest.fixture(autouse=True)
    def signals(self, monkeypatch):
        """As before the test, and not interrupted yet."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        monkeypatch.setattr(conduct, "interruption", Interruption())
        yield
        for number, receiver in before.items():
            signal.signal(number, receiver)

    @pytest.fixture
    def ways(self, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["partner"])
        monkeypatch.setattr(example, "_WAYS", {})
        return example._WAYS

    def test_wrong_outcome(self, ways, capsys):
        """An outcome that is not the expected one makes the whole fail."""
        ways["bad"] = ("Bad", lambda trial: trial.cases.append(Case("web", "200", "403")))
        assert example.main() == 1
        assert "1 of 1 are wrong" in capsys.readouterr().out

    def test_command_fails(self, ways, capsys):
        """So does a command that fails, with its own message."""

        def show(trial):
            trial.terminal.run("echo too bad >&2; exit 3")

        ways["bad"] = ("Bad", show)
        assert example.main() == 1
        assert "too bad" in capsys.readouterr().out

    def test_unknown_way(self, monkeypatch, capsys):
        """A misspelt way is told which ones there are."""
        monkeypatch.setattr(sys, "argv", ["partner", "cross-signed"])
        with pytest.raises(SystemExit):
            example.main()
        expected = "expected one of files, endpoint, cross-sign, issue, got 'cross-signed'"
        assert expected in capsys.readouterr().err

    def test_interrupted(self, ways, capsys):
        """Ctrl-C ends it in one line."""

        def show(trial):
            os.kill(os.getpid(), signal.SIGINT)

        ways["long"] = ("Long", show)
        assert example.main() == 130
        assert "FAILED: interrupted" in capsys.readouterr().out

    def test_nothing_listens(self, ways):
        """A server that does not start is an error that says so, not a wait without end."""

        def show(trial):
            with pytest.raises(DemoError, match="exit 4"):
                trial.terminal.serve("sh -c 'exit 4' 8443")

        ways["bad"] = ("Bad", show)
        assert example.main() == 0


class TestReadme:
    def test_fits_on_one_screen(self):
        """A newcomer reads it without scrolling much."""
        assert len(README.splitlines()) <= SCREEN

    def test_names_what_is_there(self):
        """Each file that it names exists, each way is in its table, and each link leads there."""
        named = set(re.findall(r"`(\w+\.(?:py|yaml))`", README)) - {"ours.yaml"}
        assert [name for name in named if not (FOLDER / name).exists()] == []
        assert {"bundle_files.py", "bundle_endpoint.py", "cross_signing.py", "issuing.py"} <= named
        links = re.findall(r"\]\(([^)]+)\)", README)
        assert links
        assert [link for link in links if not (FOLDER / link).exists()] == []

    def test_shows_the_outcomes(self):
        """What it says you see is what you see."""
        shown = re.findall(r"```text\n(.*?)```", README, re.DOTALL)[0]
        rows = [re.sub(r"\s+", " ", line) for line in shown.splitlines()]
        assert rows == OUTCOMES["files"]
