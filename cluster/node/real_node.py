# SPDX-License-Identifier: Apache-2.0
"""A real node: kubelet, containerd and runc in process, mount and network namespaces of their own.

Rules:
1. Linux and root only. Whatever happens, the kernel ends all that the node started, with its
   mounts and its network (`sandbox`); what is left are files and empty control groups.
2. Pods reach the API server at the address of the `kubernetes` Service, each other, and Services
   that somebody serves (`services`); nothing reaches them from outside but by `network`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import binaries, lifetime
from cluster.flags import SERVICE_ADDRESS, SERVICE_NETWORK
from cluster.hollow_node import volume_folder
from cluster.node import configuration
from cluster.node.control_groups import remove_groups
from cluster.node.image import write_image
from cluster.node.network import NodeNetwork
from cluster.node.sandbox import KUBELET_FOLDER, Plan
from cluster.node.tools import find_tools
from cluster.node.tree import busybox_tree
from cluster.process import Process
from cluster.readiness import wait_ready

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cluster.control_plane import ControlPlane

_READY_SECONDS = 55.0
_COMMAND_SECONDS = 120.0
_CTR_NAMESPACE = "k8s.io"


class RealNode(lifetime.Owned):
    """A running node, as a context manager.

    Args:
        control_plane: The cluster that it joins.
        name: The node's name.
        feature_gates: The kubelet's, instead of the control plane's.

    Attributes:
        name: The node's name.
        folder: Its files and logs: `containerd.log`, `kubelet.log`, `pod-logs`.

    Raises:
        ProgramMissingError: Not Linux, not root, or programs are missing; the message says which.
        StartError: A part does not start.
    """

    def __init__(
        self,
        control_plane: ControlPlane,
        name: str,
        *,
        feature_gates: Mapping[str, bool] | None = None,
    ) -> None:
        self._tools = find_tools()
        self.name = name
        self.folder = control_plane.folder / "nodes" / name
        self._control_plane = control_plane
        gates = control_plane.options.feature_gates if feature_gates is None else feature_gates
        self._feature_gates = gates
        self._processes: list[Process] = []
        self._plan = self.folder / "plan.json"

    def close(self) -> None:
        """End everything of the node; its logs stay with the cluster's."""
        self._end()
        for part in ("containerd", "disk"):
            shutil.rmtree(self.folder / part, ignore_errors=True)
        super().close()

    def restart_kubelet(self) -> None:
        """Kill the kubelet; another one starts at once and finds the pods running."""
        os.kill(self._init, signal.SIGHUP)

    def reboot(self) -> None:
        """End all processes, mounts and networks of the node, and start it again from its disk.

        What served the node's Services (`services`) does not do so any more.
        """
        self._end()
        self._boot()

    def kill(self, container_id: str) -> None:
        """Kill a container's processes; the kubelet starts it again where the pod says so."""
        container = container_id.removeprefix("containerd://")
        self._ctr("tasks", "kill", "--all", "--signal=SIGKILL", container)

    @property
    def processes(self) -> tuple[Process, ...]:
        """Our processes: the sandbox and the forwarder."""
        return tuple(self._processes)

    @property
    def network(self) -> NodeNetwork:
        """Its network, as seen from here."""
        return NodeNetwork(Path(f"/proc/{self._init}/ns/net"))

    def volume_of(self, pod_uid: str, volume: str, *, kind: str = "projected") -> Path:
        """Where the files of a pod's volume are, as seen from here; see `HollowNode.volume_of`."""
        volumes = Path(KUBELET_FOLDER) / "pods" / pod_uid / "volumes"
        return self.as_seen(volumes / volume_folder(volume, kind))

    def as_seen(self, path: Path | str) -> Path:
        """A path of the node, as it is reached from here: with what is mounted there."""
        return Path(f"/proc/{self._init}/root") / Path(path).relative_to("/")

    def mounts(self) -> list[str]:
        """The node's table of mounts, a line each, as proc_pid_mountinfo(5) tells."""
        return Path(f"/proc/{self._init}/mountinfo").read_text().splitlines()

    def log_of(self, namespace: str, pod: str, container: str) -> str:
        """What a container has written so far, all of its starts after each other."""
        pattern = f"{namespace}_{pod}_*/{container}/*.log"
        files = sorted((self.folder / "pod-logs").glob(pattern))
        # Each line is: time, stream, flag, text.
        lines = [line for file in files for line in file.read_text().splitlines()]
        return "\n".join(line.split(" ", 3)[-1] for line in lines)

    def run_in(self, container_id: str, command: Sequence[str]) -> str:
        """Run a command in a container and return what it printed.

        Args:
            container_id: `status.containerStatuses[].containerID` of the pod.
            command: The command; its program must be in the container.
        """
        container = container_id.removeprefix("containerd://")
        execution = ["--exec-id", f"run-{time.monotonic_ns()}", container, *command]
        return self._ctr("tasks", "exec", *execution)

    def import_image(self, path: Path) -> None:
        """Import an image file (`write_image`); use it with `imagePullPolicy: Never`."""
        self._ctr("images", "import", str(path))

    @property
    def _init(self) -> int:
        """The first process of the node's namespaces, by its id here."""
        parent = self._processes[0].pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return int(children[0])

    def _ctr(self, *arguments: str) -> str:
        enter = [str(self._tools.nsenter), f"--target={self._init}", "--mount", "--pid", "--net"]
        command = [*enter, *self._ctr_command(), *arguments]
        done = subprocess.run(  # noqa: S603 - our own command line
            command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def _ctr_command(self) -> list[str]:
        socket = configuration.CONTAINERD_SOCKET
        return [str(self._tools.ctr), f"--address={socket}", f"--namespace={_CTR_NAMESPACE}"]

    def _start(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True)
        (self.folder / "disk").mkdir(mode=0o755)
        self._write_plan().write(self._plan)
        self._boot()

    def _end(self) -> None:
        while self._processes:
            self._processes.pop().end()
        remove_groups(self._containers())

    def _boot(self) -> None:
        namespaces = ["--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child"]
        unshare = [str(self._tools.unshare), *namespaces, "--mount-proc"]
        sandbox = [*unshare, *_script("sandbox"), str(self._plan)]
        process = self._run("sandbox", sandbox)
        own = Path("/proc/self/ns/net").readlink()
        theirs = Path(f"/proc/{process.pid}/ns/net")
        wait_ready("sandbox", lambda: theirs.readlink() != own, [process], _READY_SECONDS)
        target = [SERVICE_ADDRESS, str(configuration.SERVICE_PORT), str(self._control_plane.port)]
        forwarder = [*_script("forwarder"), str(process.pid), *target]
        self._run("forwarder", forwarder)
        wait_ready(f"node {self.name!r}", self._is_ready, self._processes, _READY_SECONDS)

    def _run(self, name: str, command: Sequence[str]) -> Process:
        process = Process(f"{self.name} {name}", command, log=self.folder / f"{name}.log")
        self._processes.append(process)
        process.start()
        return process

    def _is_ready(self) -> bool:
        return self._control_plane.is_node_ready(self.name)

    def _containers(self) -> set[str]:
        """Ids of the containers that were there at the end."""
        folders = (self.folder / "containerd").glob("io.containerd.*cri*/*/*/")
        return {each.name for each in folders}

    def _write_plan(self) -> Plan:
        network = self.folder / "network"
        network.mkdir()
        (network / "10-kubetls.conflist").write_text(configuration.network())
        return Plan(
            busybox=str(self._tools.busybox),
            address=configuration.NODE_ADDRESS,
            service_network=SERVICE_NETWORK,
            containerd=[str(self._tools.containerd), f"--config={self._write_containerd(network)}"],
            containerd_socket=configuration.CONTAINERD_SOCKET,
            image_import=[*self._ctr_command(), "images", "import"],
            images=[str(self._write_pause_image())],
            kubelet=self._kubelet(),
            disk=str(self.folder / "disk"),
            logs=str(self.folder),
        )

    def _write_containerd(self, network: Path) -> Path:
        path = self.folder / "containerd.toml"
        root, plugins = self.folder / "containerd", self._tools.network_plugins
        text = configuration.containerd(
            root, plugins=plugins, network=network, snapshotter=self._snapshotter()
        )
        path.write_text(text)
        return path

    def _snapshotter(self) -> str:
        """Layers without copies where the file system can do that."""
        folders = [self.folder / "overlay" / each for each in ("lower", "upper", "work")]
        for each in folders:
            each.mkdir(parents=True)
        options = ",".join(f"{each.name}dir={each}" for each in folders)
        mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(folders[0])]
        done = subprocess.run(  # noqa: S603 - our own command line
            [str(self._tools.unshare), "--mount", *mount], capture_output=True, check=False
        )
        return "native" if done.returncode else "overlayfs"

    def _write_pause_image(self) -> Path:
        image = self.folder / "pause.tar"
        command = ["/bin/busybox", "sleep", "2147483647"]
        return write_image(image, configuration.PAUSE_IMAGE, busybox_tree(), command=command)

    def _kubelet(self) -> list[str]:
        server = f"https://{SERVICE_ADDRESS}"
        user = f"system:node:{self.name}"
        kubeconfig = self._control_plane.kubeconfig_for(user, ["system:nodes"], server=server)
        config = self.folder / "kubelet.json"
        config.write_text(
            configuration.kubelet(
                self.folder,
                authority=self._control_plane.authority_file,
                feature_gates=self._feature_gates,
            )
        )
        return [
            str(binaries.find("kubelet")),
            f"--hostname-override={self.name}",
            f"--node-ip={configuration.NODE_ADDRESS}",
            f"--root-dir={KUBELET_FOLDER}",
            f"--kubeconfig={kubeconfig}",
            f"--config={config}",
        ]


def _script(name: str) -> list[str]:
    """One of our modules that runs by itself, with nothing but the standard library."""
    return [sys.executable, "-I", str(Path(__file__).with_name(f"{name}.py"))]
