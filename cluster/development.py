# SPDX-License-Identifier: Apache-2.0
"""The development cluster: one for a checkout, which stays until it is ended.

`start` leaves a keeper behind, a process of its own session, which runs the control plane and the
nodes and ends them when it is ended. What is written down lets another command find it again.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from cluster.binaries import BUILD_FOLDER, ROOT
from cluster.control_plane import ControlPlane
from cluster.exceptions import StartError
from cluster.hollow_node import HollowNode
from cluster.node import RealNode
from cluster.recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cluster.process import Process

_START_SECONDS = 120.0
_END_SECONDS = 15.0
_PAUSE_SECONDS = 0.1
_WATCH_SECONDS = 1.0


class DevelopmentCluster:
    """The development cluster in a folder, whether it runs or not.

    Args:
        folder: Where everything of it is; removed when it is ended.
    """

    def __init__(self, folder: Path = BUILD_FOLDER / "dev") -> None:
        self.folder = folder
        self.kubeconfig = folder / "admin.kubeconfig"
        self._record = folder / "processes.json"
        self._log = folder.with_name(f"{folder.name}.log")
        self._lock = folder.with_name(f"{folder.name}.lock")

    @property
    def is_running(self) -> bool:
        """Whether it is there and complete."""
        recorded = self._recorded()
        return len(recorded) > 1 and all(each.is_running for each in recorded)

    def start(self, nodes: int = 2, *, is_real: bool = False) -> bool:
        """Start it and return when it is ready; False when it ran already.

        Args:
            nodes: How many hollow nodes.
            is_real: Also a real node, named `real-1`.

        Raises:
            StartError: It ended or was not ready in time; the message ends with the log.
        """
        with self._alone():
            if self.is_running:
                return False
            self._end()  # What a reboot or a crash has left.
            command = [sys.executable, "-m", "cluster", "keep", str(self.folder), str(nodes)]
            command += ["--real"] if is_real else []
            with self._log.open("wb") as log:
                keeper = subprocess.Popen(  # noqa: S603 - ourselves
                    command,
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self._wait_ready(keeper)
            keeper.returncode = 0  # It stays on its own: nobody is to be told that it still runs.
            return True

    def end(self) -> bool:
        """End exactly its processes and remove its folder; False when there was none."""
        with self._alone():
            return self._end()

    def keep(self, nodes: int, *, is_real: bool = False) -> None:
        """Run it, in this process, until this process is ended or one of its programs ends."""
        self.folder.mkdir(mode=0o700, parents=True)
        self._write([])
        with ExitStack() as stack:
            control_plane = stack.enter_context(ControlPlane(self.folder))
            names = [f"node-{number + 1}" for number in range(nodes)]
            running = [stack.enter_context(HollowNode(control_plane, name)) for name in names]
            processes = [*control_plane.processes, *(node.process for node in running)]
            if is_real:
                real = stack.enter_context(RealNode(control_plane, "real-1"))
                processes += real.processes
            self._write(processes)
            while True:
                for process in processes:
                    process.check()
                time.sleep(_WATCH_SECONDS)

    def _end(self) -> bool:
        recorded = self._recorded()
        was_running = any(each.is_running for each in recorded)
        for each in recorded:  # The keeper first: it ends the others.
            each.end(_END_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)
        return was_running

    def _wait_ready(self, keeper: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self.is_running:
            if keeper.poll() is not None or time.monotonic() > deadline:
                keeper.terminate()
                keeper.wait(_END_SECONDS)
                raise StartError(f"the cluster did not start:\n{self._log.read_text()[-3000:]}")
            time.sleep(_PAUSE_SECONDS)

    def _write(self, processes: Sequence[Process]) -> None:
        pids = [os.getpid(), *(each.pid for each in processes if each.pid)]
        partial = self._record.with_suffix(".partial")
        partial.write_text(json.dumps([Recorded.of(pid) for pid in pids]))
        partial.replace(self._record)

    def _recorded(self) -> list[Recorded]:
        """The keeper and then its programs; nothing when nothing was written."""
        try:
            return [Recorded(*each) for each in json.loads(self._record.read_text())]
        except FileNotFoundError:
            return []

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait for another command about the same cluster."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
