# SPDX-License-Identifier: Apache-2.0
"""How the programs of the development cluster start, end, and are found again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster.exceptions import PortTakenError, StartError
from cluster.ports import free_ports
from cluster.process import Process
from cluster.readiness import wait_ready
from cluster.recorded import Recorded
from tests.cluster import conftest
from tests.waiting import until

ROOT = Path(__file__).parent.parent
SLEEPING = ["sleep", "600"]
# Starts a program of its own and tells its id; then does what the test adds.
PARENT = """
import sys, threading, signal, os
from pathlib import Path
from cluster import lifetime
from cluster.process import Process
process = Process("p", ["sleep", "600"], log=Path(os.devnull))
class Owner:
    def close(self):
        process.end()
        print("closed", flush=True)
"""


def parent(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PARENT + code],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.fixture
def sleeping(tmp_path: Path):
    process = Process("sleeper", SLEEPING, log=tmp_path / "log")
    process.start()
    yield process
    process.end()


class TestProcess:
    def test_end(self, sleeping: Process) -> None:
        """A program is gone when `end` returns; ending again is harmless."""
        recorded = Recorded.of(sleeping.pid)
        assert sleeping.is_running
        sleeping.end()
        sleeping.end()
        assert not recorded.is_running
        assert not sleeping.is_running

    def test_restart(self, sleeping: Process) -> None:
        """A program that was ended can be started again."""
        first = sleeping.pid
        sleeping.end()
        sleeping.start()
        assert sleeping.is_running
        assert sleeping.pid != first

    def test_output_is_logged(self, tmp_path: Path) -> None:
        """Both outputs are in the log, and the error shows its end."""
        script = "import sys; print('out', flush=True); print('bad', file=sys.stderr)"
        process = Process("p", [sys.executable, "-c", script], log=tmp_path / "log")
        process.start()
        until(lambda: not process.is_running)
        with pytest.raises(StartError, match=r"p ended by itself.*\nout\nbad$"):
            process.check()

    def test_taken_port_is_an_error_of_its_own(self, tmp_path: Path) -> None:
        """A program that found its port taken may be started again with another."""
        script = "import sys; sys.exit('listen: bind: address already in use')"
        process = Process("p", [sys.executable, "-c", script], log=tmp_path / "log")
        process.start()
        until(lambda: not process.is_running)
        with pytest.raises(PortTakenError):
            process.check()

    def test_other_thread(self, tmp_path: Path) -> None:
        """A program outlives the thread that started it."""
        process = Process("p", SLEEPING, log=tmp_path / "log")
        thread = threading.Thread(target=process.start)
        thread.start()
        thread.join()
        recorded = Recorded.of(process.pid)
        assert not recorded.wait(0.3)
        process.end()

    @pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux'")
    def test_killed_parent(self) -> None:
        """Nothing stays when the parent is killed without notice."""
        with parent("process.start(); print(process.pid, flush=True); sys.stdin.read()") as keeper:
            recorded = Recorded.of(int(keeper.stdout.readline()))
            assert recorded.is_running
            keeper.kill()
        assert recorded.wait(5)


class TestLifetime:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=str)
    def test_signal_closes_owners(self, number: signal.Signals) -> None:
        """A signal closes what is owned, and then ends the process as that signal does."""
        code = "process.start(); lifetime.adopt(Owner()); print(process.pid, flush=True)"
        default = f"signal.signal({int(number)}, signal.SIG_DFL)"  # as not under nohup
        with parent(f"{default}; {code}; sys.stdin.read()") as keeper:
            recorded = Recorded.of(int(keeper.stdout.readline()))
            keeper.send_signal(number)
            assert keeper.stdout.read() == "closed\n"
        assert keeper.returncode == -number
        assert not recorded.is_running

    def test_own_handling_is_kept(self) -> None:
        """A program that handles the signal itself keeps its handling."""
        code = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); lifetime.adopt(Owner())"
        with parent(f"{code}; print(flush=True); sys.stdin.read()") as keeper:
            keeper.stdout.readline()
            keeper.terminate()
            assert keeper.stdout.read() == ""
        assert keeper.returncode == 7

    def test_other_thread_may_adopt(self) -> None:
        """Only the main thread can handle signals; another one is not refused."""
        code = "thread = threading.Thread(target=lifetime.adopt, args=[Owner()]); thread.start()"
        with parent(f"{code}; thread.join(); print('adopted')") as keeper:
            assert keeper.stdout.read() == "adopted\n"

    def test_released_owner_is_not_closed(self) -> None:
        """What was closed before is not closed again."""
        code = "owner = Owner(); lifetime.adopt(owner); lifetime.release(owner); print('ready')"
        with parent(f"{code}; sys.stdout.flush(); sys.stdin.read()") as keeper:
            keeper.stdout.readline()
            keeper.terminate()
            assert keeper.stdout.read() == ""


class TestRecorded:
    def test_same_process(self, sleeping: Process) -> None:
        """A process is found again, and ended."""
        recorded = Recorded.of(sleeping.pid)
        assert Recorded(*recorded).is_running
        recorded.end(5)
        until(lambda: not sleeping.is_running)

    def test_used_again(self, sleeping: Process) -> None:
        """Another process with the same id is not touched."""
        other = Recorded(sleeping.pid, "another boot or another time")
        assert not other.is_running
        other.end(0)
        assert sleeping.is_running

    def test_unstarted(self) -> None:
        """What never ran is not running, whatever its id is now."""
        assert not Recorded(os.getpid(), "").is_running
        assert not Recorded.of(2**22 + 1).is_running

    def test_stubborn_process_is_killed(self, tmp_path: Path) -> None:
        """A process that does not end when asked is killed."""
        script = "import signal, sys; signal.signal(15, signal.SIG_IGN); print(1, flush=True)"
        with subprocess.Popen(
            [sys.executable, "-c", f"{script}; sys.stdin.read()"],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
        ) as stubborn:
            stubborn.stdout.readline()
            Recorded.of(stubborn.pid).end(0.2)
        assert stubborn.returncode == -signal.SIGKILL


class TestWaitReady:
    def test_ready(self, sleeping: Process) -> None:
        """It returns as soon as the answer is yes."""
        answers = iter([False, False, True])
        wait_ready("it", lambda: next(answers), [sleeping], 5)

    def test_deadline(self, sleeping: Process) -> None:
        """After the deadline the error names what was waited for."""
        with pytest.raises(StartError, match=r"it was not ready within 0 s"):
            wait_ready("it", lambda: False, [sleeping], 0)

    def test_ended_process(self, sleeping: Process) -> None:
        """A process that has ended is noticed before the deadline."""
        sleeping.end()
        with pytest.raises(StartError, match="sleeper ended by itself"):
            wait_ready("it", lambda: False, [sleeping], 60)


class TestFreePorts:
    def test_different_and_free(self) -> None:
        """The ports differ, and nothing listens on them."""
        ports = free_ports(20)
        assert len(set(ports)) == 20
        for port in ports:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))


class TestCollection:
    @pytest.mark.parametrize(
        ("argument", "is_left_out"),
        [
            pytest.param("tests", True, id="all tests"),
            pytest.param("tests/sdk", True, id="other tests"),
            pytest.param("tests/cluster", None, id="the folder"),
            pytest.param("tests/cluster/test_harness.py::TestApis", None, id="one class"),
            pytest.param(str(ROOT / "tests" / "cluster"), None, id="absolute"),
        ],
    )
    def test_cluster_tests_run_only_when_named(
        self, argument: str, is_left_out: bool | None
    ) -> None:
        """`make test` needs no cluster: its tests are left out unless they are named."""
        config = SimpleNamespace(args=[argument], invocation_params=SimpleNamespace(dir=ROOT))
        path = ROOT / "tests" / "cluster" / "test_harness.py"
        assert conftest.pytest_ignore_collect(path, config) is is_left_out

    @pytest.mark.parametrize(
        ("outcome", "expected"),
        [("skipped", "failed"), ("passed", "passed"), ("failed", "failed")],
    )
    def test_none_is_skipped(self, outcome: str, expected: str) -> None:
        """A cluster test that skips itself has failed."""
        report = SimpleNamespace(outcome=outcome, skipped=outcome == "skipped", longrepr="why")
        hook = conftest.pytest_runtest_makereport(None, None)
        next(hook)
        with pytest.raises(StopIteration) as ended:
            hook.send(report)
        assert ended.value.value.outcome == expected
