# SPDX-License-Identifier: Apache-2.0
"""The first process of a real node's namespaces: `python sandbox.py PLAN`.

Rules:
1. It is process 1: when it ends, the kernel ends every process of the node, and with them go
   the node's mounts and network. So nothing has to be undone.
2. It ends when containerd or the kubelet ends by itself; SIGHUP replaces the kubelet.
3. It imports the standard library only, and runs by its path: it is small and starts at once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

# What programs write in fixed places goes away with the node: at once, or with its disk.
PRIVATE_FOLDERS = ("/run", "/var/log")
DISK_FOLDER = "/var/lib"
KUBELET_FOLDER = f"{DISK_FOLDER}/kubelet"
_START_SECONDS = 30.0
_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to start, in this order: network, containerd, images, kubelet."""

    busybox: str
    address: str
    service_network: str
    containerd: list[str]
    containerd_socket: str
    image_import: list[str]
    images: list[str]
    kubelet: list[str]
    disk: str
    logs: str

    def write(self, path: Path) -> Path:
        """Write it for the sandbox."""
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read what `write` wrote."""
        return cls(**json.loads(path.read_text()))


def main(plan: Plan) -> int:
    """Start the node and stay until a part of it ends."""
    for folder in PRIVATE_FOLDERS:
        _run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder])
    _run(["mount", "--bind", plan.disk, DISK_FOLDER])
    # As systemd does on a node: what a pod mounts is seen by the kubelet, and by other pods.
    _run(["mount", "--make-rshared", "/"])
    ip = [plan.busybox, "ip"]
    _run([*ip, "link", "set", "lo", "up"])
    _run([*ip, "address", "add", f"{plan.address}/32", "dev", "lo"])
    _run([*ip, "route", "add", "local", plan.service_network, "dev", "lo"])
    containerd = _start(plan, "containerd", plan.containerd)
    _wait_for(containerd, Path(plan.containerd_socket))
    for image in plan.images:
        _run([*plan.image_import, image])
    return _reap(plan, containerd.pid)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - the plan's


def _start(plan: Plan, name: str, command: list[str]) -> subprocess.Popen[bytes]:
    with (Path(plan.logs) / f"{name}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - the plan's


def _wait_for(process: subprocess.Popen[bytes], path: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"containerd did not start; see its log beside this one ({path})")
        time.sleep(_PAUSE_SECONDS)


def _reap(plan: Plan, containerd: int) -> int:
    """Wait for every process that has nobody else, until one of the parts ends by itself."""
    kubelet = _Kubelet(plan)
    signal.signal(signal.SIGHUP, kubelet.end)
    while True:
        pid, _ = os.wait()
        if pid == kubelet.pid and kubelet.is_ending:
            kubelet.start()
        elif pid in {containerd, kubelet.pid}:
            name = "containerd" if pid == containerd else "kubelet"
            sys.stderr.write(f"{name} has ended\n")
            return 1


class _Kubelet:
    """The kubelet's process; pods go on while there is none."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.start()

    def start(self) -> None:
        self.is_ending = False
        self.pid = _start(self._plan, "kubelet", self._plan.kubelet).pid

    def end(self, *_: object) -> None:
        self.is_ending = True
        os.kill(self.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(Plan.read(Path(sys.argv[1]))))
