# SPDX-License-Identifier: Apache-2.0
"""A node without containers: the real kubelet's code with a pretended container runtime.

It asks for pod certificates, fetches trust bundles and writes volumes as on a real node; it needs
no rights. Started containers are pretended, so it says that pods run when their volumes are there.

Rules:
1. What CSI drivers mount, where they may, is in a mount namespace of the node's own: the kernel
   removes it with the last process of the node.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from cluster import binaries, lifetime
from cluster.flags import switches
from cluster.process import Process
from cluster.readiness import wait_ready

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.control_plane import ControlPlane

_READY_SECONDS = 45.0
_OWN_MOUNTS = ("unshare", "--mount", "--propagation=private")
KUBELET_FOLDER = "/var/lib/kubelet"
# Of a CSI driver, beside those of the kubelet itself: a driver's name may have 63 characters.
_LONGEST_SOCKET = f"/kubelet/plugins_registry/{'x' * 63}-reg.sock"
_LONGEST_FOLDER = 107 - len(_LONGEST_SOCKET)


class HollowNode(lifetime.Owned):
    """A running hollow kubelet, as a context manager.

    Args:
        control_plane: The cluster that it joins.
        name: The node's name.
        qps: Requests a second that it may send; the kubelet's own default is too low for bursts.
        max_pods: How many pods it takes.
        labels: Further labels of the node.
        feature_gates: The kubelet's, instead of the control plane's.
        mounts: Whether its pods may mount; `may_mount` says where that is allowed.

    Attributes:
        name: The node's name.
        root: The kubelet's root folder.
    """

    def __init__(
        self,
        control_plane: ControlPlane,
        name: str,
        *,
        qps: int = 100,
        max_pods: int = 250,
        labels: Mapping[str, str] | None = None,
        feature_gates: Mapping[str, bool] | None = None,
        mounts: bool = False,
    ) -> None:
        self.name = name
        self._mounts = mounts
        self._folder = _short(control_plane.folder / "nodes" / name)
        self.root = self._folder / "kubelet"
        self._control_plane = control_plane
        self._process: Process | None = None
        gates = control_plane.options.feature_gates if feature_gates is None else feature_gates
        self._flags = [
            f"--name={name}",
            f"--kube-api-qps={qps}",
            f"--max-pods={max_pods}",
            f"--node-labels={','.join(f'{k}={v}' for k, v in (labels or {}).items())}",
            f"--feature-gates={switches(gates)}",
        ]

    def close(self) -> None:
        """End the kubelet and remove what it wrote; its log stays with the cluster's."""
        if self._process is not None:
            self._process.end()
        shutil.rmtree(self._folder, ignore_errors=True)
        super().close()

    @property
    def process(self) -> Process:
        """The kubelet's process."""
        if self._process is None:
            raise RuntimeError(f"node {self.name!r} is not running")
        return self._process

    def volume_of(self, pod_uid: str, volume: str, *, kind: str = "projected") -> Path:
        """Where the files of a pod's volume are, or will be once the kubelet has written them.

        Args:
            pod_uid: `metadata.uid` of the pod.
            volume: The volume's name in the pod.
            kind: The plug-in: `projected`, `secret`, `configmap`, `empty-dir`, `csi`.
        """
        if kind == "csi":
            return self.as_seen(self.target_of(pod_uid, volume))
        return self.root / "pods" / pod_uid / "volumes" / volume_folder(volume, kind)

    def target_of(self, pod_uid: str, volume: str) -> Path:
        """Where the kubelet tells a CSI driver to put a pod's volume."""
        return self.root / "pods" / pod_uid / "volumes" / volume_folder(volume, "csi")

    def as_seen(self, path: Path) -> Path:
        """A path of the node, as it is reached from here: with what is mounted there."""
        return Path(f"/proc/{self.process.pid}/root{path}") if self._mounts else path

    @property
    def entering(self) -> list[str]:
        """What a command starts with whose mounts are to be the node's."""
        return ["nsenter", f"--target={self.process.pid}", "--mount"] if self._mounts else []

    def host_path(self, path: str) -> Path:
        """Where a folder of the node itself is, for its pods: the kubelet's, or one made here."""
        below = PurePosixPath(path)
        if below.is_relative_to(KUBELET_FOLDER):
            folder = self.root / below.relative_to(KUBELET_FOLDER)
        else:
            folder = self._folder / "host" / below.relative_to("/")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def restart(self) -> None:
        """Kill the kubelet and start it again; it starts with an empty root folder."""
        self.process.end()
        shutil.rmtree(self.root)
        self.root.mkdir(mode=0o700)
        self.process.start()

    def _start(self) -> None:
        self.root.mkdir(mode=0o700, parents=True)
        user = f"system:node:{self.name}"
        kubeconfig = self._control_plane.kubeconfig_for(user, ["system:nodes"])
        self._process = Process(
            self.name,
            [
                *(_OWN_MOUNTS if self._mounts else ()),
                str(binaries.find("hollow-kubelet")),
                *self._flags,
                f"--root-dir={self.root}",
                f"--kubeconfig={kubeconfig}",
            ],
            log=self._control_plane.folder / f"node-{self.name}.log",
        )
        self._process.start()
        wait_ready(f"node {self.name!r}", self._is_ready, [self._process], _READY_SECONDS)

    def _is_ready(self) -> bool:
        return self._control_plane.is_node_ready(self.name)


def volume_folder(volume: str, kind: str) -> Path:
    """Where a volume is below the folder of its pod's volumes; a CSI driver's target is `mount`."""
    folder = Path(f"kubernetes.io~{kind}") / volume
    return folder / "mount" if kind == "csi" else folder


def may_mount() -> bool:
    """Whether this process may mount, in a mount namespace of its own."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    command = [*_OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", tempfile.gettempdir()]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - our own
    return done.returncode == 0


def _short(folder: Path) -> Path:
    """The folder, or a temporary one where a socket's name below it would be too long."""
    if len(str(folder)) <= _LONGEST_FOLDER:
        return folder
    return Path(tempfile.mkdtemp(prefix="kubetls-node-"))
