# SPDX-License-Identifier: Apache-2.0
"""How the demo judges: what counts as observed, when everything is right, and how it is shown."""

from __future__ import annotations

import json
import math
import sys

import pytest

from examples.demo.result import Endurance, Result
from examples.demonstration.case import Case
from examples.demonstration.child import Child, DemoError, end_children, until
from examples.demonstration.screen import PlainScreen
from examples.demonstration.verdict import observed
from examples.demonstration.wire import Answer, StockCaller

RIGHT = Case("web reads", "200", "200")
WRONG = Case("a stranger reads", "refused: unknown root", "200")


class TestObserved:
    """`observed`: the wire and the log together."""

    @pytest.mark.parametrize(
        ("expected", "answer", "log"),
        [
            pytest.param("200", Answer(1, 200), "", id="an answer that the log does not refuse"),
            pytest.param(
                "refused: no certificate",
                Answer(1, None),
                "it presented no certificate",
                id="no answer, and the log says why",
            ),
            pytest.param(
                "refused: expired", Answer(1, 401), "its certificate expired at ...", id="401"
            ),
            pytest.param(
                "403: no rule allows it", Answer(1, 403), "no allow rule names ...", id="403"
            ),
        ],
    )
    def test_agreement(self, expected, answer, log):
        """Where both say the same, the outcome is one of the words of the tables."""
        assert observed(answer, log) == expected

    @pytest.mark.parametrize(
        ("answer", "log"),
        [
            pytest.param(Answer(1, None), "", id="no answer, and the log knows nothing"),
            pytest.param(Answer(1, None), "its issuer is unknown", id="for another reason"),
            pytest.param(Answer(1, None, is_resumed=True), "expired", id="after a resumption"),
            pytest.param(Answer(1, 200), "expired", id="an answer that the log refuses"),
            pytest.param(Answer(1, 500), "expired", id="a server that fails"),
        ],
    )
    def test_disagreement(self, answer, log):
        """Where they do not, it is not the expected outcome."""
        assert observed(answer, log) != "refused: expired"

    def test_a_refusal_in_the_log_spoils_an_answer(self):
        """200 is only 200 when the log does not say the opposite."""
        assert observed(Answer(1, 200), "expired") == "200, though the log says: expired"


class TestResult:
    """`Result`."""

    def test_is_ok_when_everything_is_as_expected(self):
        """All cases right and no request failed."""
        assert _result().is_ok

    @pytest.mark.parametrize(
        "result",
        [
            pytest.param(lambda: _result(admission=(RIGHT, WRONG)), id="who gets in"),
            pytest.param(lambda: _result(cases=(WRONG,)), id="while everything rotates"),
            pytest.param(lambda: _result(failed=1), id="a failed request"),
        ],
    )
    def test_is_not_ok_otherwise(self, result):
        """One wrong outcome anywhere is enough."""
        assert not result().is_ok
        assert result().document()["ok"] is False

    def test_document_has_no_number_for_what_never_took_effect(self):
        """Infinity is not JSON."""
        document = _result(root_removed=math.inf).document()
        written = json.loads(json.dumps(document, allow_nan=False))
        assert written["seconds_to_effect"] == {
            "svid": 0.2,
            "root_added": 0.1,
            "root_removed": None,
        }


class TestPlainScreen:
    """`PlainScreen`, for CI."""

    def test_table_marks_what_is_wrong_and_says_what_was_expected(self, capsys):
        """A reader of the log finds the wrong line without comparing columns."""
        PlainScreen().table("Who gets in", [RIGHT, WRONG])
        assert capsys.readouterr().out.splitlines()[1:] == [
            "Who gets in",
            "      who does what     outcome, by the wire and the server's log",
            "  ok  web reads         200",
            "  NO  a stranger reads  200; expected: refused: unknown root",
            "",
        ]

    def test_progress_is_not_a_flood(self, capsys):
        """Right after a step nothing is printed."""
        screen = PlainScreen()
        screen.step("Rotating")
        screen.progress("rotation 1 of 20")
        assert capsys.readouterr().out == "==> Rotating\n"


class TestChild:
    """`Child`."""

    def test_end_of_its_log_is_in_the_error(self, tmp_path):
        """A process that ends early says why itself."""
        command = [sys.executable, "-c", "print('port is taken'); raise SystemExit(3)"]
        child = Child("orders", command, log=tmp_path / "orders.log")
        with pytest.raises(DemoError, match=r"orders ended with status 3(?s:.*)port is taken"):
            child.wait_for("running")

    def test_is_ended_even_when_it_ignores_the_request(self, tmp_path):
        """SIGKILL comes after SIGTERM; nothing stays behind."""
        script = "import signal, sys; signal.signal(15, signal.SIG_IGN); print('on'); sys.stdin"
        command = [sys.executable, "-c", f"{script}; signal.pause()"]
        child = Child("stubborn", command, log=tmp_path / "log", end_seconds=0.1)
        child.wait_for("on")
        end_children()
        with pytest.raises(DemoError, match="stubborn ended with status -9"):
            child.check_alive()

    def test_until_returns_what_it_has_at_the_deadline(self):
        """The caller decides what a timeout means."""
        assert until(lambda: 0, 0.0) == 0


class TestStockCaller:
    """`StockCaller`."""

    def test_nobody_listening_is_an_observation(self):
        """No traceback for a server that is not there."""
        answer = StockCaller(1).call("/orders/probe")
        assert answer.status is None
        assert "refused" in answer.detail


def _result(
    *,
    admission: tuple[Case, ...] = (RIGHT,),
    cases: tuple[Case, ...] = (RIGHT,),
    failed: int = 0,
    root_removed: float = 0.1,
) -> Result:
    lasting = Endurance(cases, 100, failed, (0.1, 0.2), 0.1, root_removed)
    return Result(admission, lasting)
