# SPDX-License-Identifier: Apache-2.0
"""The development cluster: it stays until it is ended, and is ended completely."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import StartError, binaries, development
from cluster.development import DevelopmentCluster
from cluster.recorded import Recorded


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DevelopmentCluster]:
    """A development cluster in a folder of the test's own, ended after it."""
    found = DevelopmentCluster(tmp_path / "dev")
    yield found
    found.end()


def recorded(cluster: DevelopmentCluster) -> list[Recorded]:
    text = (cluster.folder / "processes.json").read_text()
    return [Recorded(*each) for each in json.loads(text)]


def nodes(cluster: DevelopmentCluster) -> str:
    command = [binaries.find("kubectl"), f"--kubeconfig={cluster.kubeconfig}", "get", "nodes"]
    done = subprocess.run([*command, "-o", "name"], capture_output=True, text=True, check=True)
    return done.stdout


class TestStart:
    def test_stays_until_it_is_ended(self, cluster: DevelopmentCluster) -> None:
        """It is used through its kubeconfig, found by the next command, and ended by `end`."""
        assert cluster.start(nodes=1)
        assert nodes(cluster) == "node/node-1\n"
        again = DevelopmentCluster(cluster.folder)
        assert not again.start(nodes=1)
        processes = recorded(cluster)
        assert len(processes) == 6
        assert os.getsid(processes[0].pid) == processes[0].pid
        assert again.end()
        assert not any(each.is_running for each in processes)
        assert not cluster.folder.exists()
        assert not again.end()

    def test_stale_folder(self, cluster: DevelopmentCluster) -> None:
        """What a crash or a reboot has left does not keep it from starting."""
        cluster.start(nodes=0)
        before = recorded(cluster)
        before[0].send(signal.SIGKILL)
        assert all(each.wait(5) for each in before)
        assert not cluster.is_running
        assert cluster.start(nodes=0)
        assert cluster.is_running

    def test_ended_program_ends_all(self, cluster: DevelopmentCluster) -> None:
        """A cluster of which a part is gone does not stay as half a cluster."""
        cluster.start(nodes=0)
        keeper, *programs = recorded(cluster)
        programs[0].send(signal.SIGKILL)
        assert keeper.wait(10)
        assert not any(each.is_running for each in programs)

    def test_failure_is_told(
        self, cluster: DevelopmentCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A start that fails is an error with the reason, and leaves nothing."""
        monkeypatch.setattr(development.sys, "executable", "/bin/false")
        with pytest.raises(StartError, match="did not start"):
            cluster.start()
        assert not cluster.is_running
