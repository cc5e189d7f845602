# SPDX-License-Identifier: Apache-2.0
"""The demo succeeds, fails when a protection is switched off, and leaves nothing behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.examples.demo_run import ROOT, DemoRun, start_demo
from tests.examples.process_tree import children_of
from tests.examples.sabotaged_runs import running
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SABOTAGES = {
    "no_root_removal": {
        "its root is removed: new connection",
        "its root is removed: kept-alive connection",
        "its root is removed: TLS resumption",
    },
    "no_domain_check": {"web's name, signed by the partner's CA"},
    "no_request_check": {"expires while connected: kept-alive connection"},
    "with_resumption": {"expires while connected: TLS resumption"},
    "no_policy": {
        "billing deletes an order",
        "alice's orders, by billing for alice",
        "alice's orders, by web for bob",
    },
    "no_token_expiry": {"alice's orders, with an expired token"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], DemoRun]]:
    """All runs of this file, two at a time; the result of each when it is asked for."""
    with running(DemoRun.of, SABOTAGES, tmp_path_factory) as found:
        yield found


class TestDemo:
    """`python -m examples.demo`."""

    def test_succeeds(self, runs):
        """Every outcome is the expected one, and the exit status says so."""
        run = runs("right")
        assert (run.status, run.wrong()) == (0, {}), run.output

    def test_document_has_the_promised_shape(self, runs):
        """build/demo.json has exactly the fields that others read."""
        document = runs("right").document
        assert list(document) == ["cases", "requests", "failed", "seconds_to_effect", "ok"]
        assert all(list(case) == ["name", "expected", "observed"] for case in document["cases"])
        assert list(document["seconds_to_effect"]) == ["svid", "root_added", "root_removed"]
        assert all(0 < seconds < 5 for seconds in document["seconds_to_effect"].values())
        assert (document["ok"], document["failed"]) == (True, 0)
        assert document["requests"] >= 150

    def test_covers_every_caller_of_the_main_job(self, runs):
        """The tables have the callers, the controls and the three ways of a removed root."""
        names = [case["name"] for case in runs("right").document["cases"]]
        assert set().union(*SABOTAGES.values()) <= set(names)
        assert sum(name.startswith("control: ") for name in names) == 3

    def test_shows_each_of_the_five_checks(self, runs):
        """One request passes all of them, and for each there is one that fails it alone."""
        cases = runs("right").document["cases"]
        observed = [case["observed"] for case in cases if case["name"].startswith("alice's")]
        assert observed == [
            "200: all five passed",
            "no answer: encryption failed",
            "no answer: service authentication failed",
            "403: service authorization failed",
            "401: user authentication failed",
            "403: user authorization failed",
        ]

    def test_prints_plain_text_without_a_terminal(self, runs):
        """No escape sequence, no carriage return: a log of CI stays readable."""
        output = runs("right").output
        assert "Who gets in" in output
        assert "\x1b" not in output
        assert "\r" not in output

    def test_leaves_no_key_behind(self, runs):
        """What was issued is gone from the disk, and in no log."""
        run = runs("right")
        assert not list((run.build / "keys").iterdir())
        assert not [log for log in run.build.rglob("*.log") if "PRIVATE KEY" in log.read_text()]

    @pytest.mark.parametrize("sabotage", SABOTAGES)
    def test_fails_without(self, runs, sabotage):
        """With a protection switched off in the server, the demo says so and does not exit 0."""
        run = runs(sabotage)
        assert run.status == 1, run.output
        assert SABOTAGES[sabotage] <= run.wrong().keys(), run.output
        assert run.document["ok"] is False

    def test_says_why_the_server_does_not_start(self, tmp_path):
        """A newcomer sees what the server said, not a traceback of the demo."""
        script = "import sys; sys.exit('no policy today')"
        run = DemoRun.of(tmp_path, "--server-command", f'{sys.executable} -c "{script}"')
        assert run.status == 1
        assert "FAILED: orders ended with status 1" in run.output
        assert "no policy today" in run.output
        assert "Traceback" not in run.output

    def test_says_which_command_is_missing(self, tmp_path):
        """A command that does not exist is named."""
        run = DemoRun.of(tmp_path, "--server-command", "/nowhere/kubetls")
        assert run.status == 1
        assert "orders could not be started: /nowhere/kubetls: No such file" in run.output

    def test_says_what_is_not_installed(self):
        """Run by a Python without the packages, it points to the command that installs them."""
        command = [sys.executable, "-S", "-m", "examples.demo"]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
        assert run.returncode == 1
        assert re.fullmatch(
            r"The demo needs '\w+', which is not installed here: run `make demo`\.\n", run.stderr
        )

    @pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
    def test_ends_its_children_when_interrupted(self, tmp_path, number):
        """Neither a process nor a key stays behind."""
        process = start_demo(tmp_path)
        children = until(lambda: children_of(process.pid), timeout=20)
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 130, output
        assert "interrupted" in output
        assert "Traceback" not in output
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
        assert not list((tmp_path / "keys").iterdir())
