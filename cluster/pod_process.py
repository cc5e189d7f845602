# SPDX-License-Identifier: Apache-2.0
"""A container of a pod on a hollow node, run as a real process of this machine.

The hollow kubelet writes the pod's volumes and pretends its containers. This runs what the
container would: the same arguments and variables, the files that the kubelet wrote, and the pod's
own service account token.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cluster import container_view, lifetime
from cluster.authority import write_private
from cluster.hollow_node import KUBELET_FOLDER
from cluster.process import Process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cluster.control_plane import ControlPlane
    from cluster.hollow_node import HollowNode

_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class PodProcess(lifetime.Owned):
    """A running container, as a context manager.

    Args:
        control_plane: The cluster.
        node: The node that the pod was scheduled onto; its volumes are there.
        pod: The pod as the API server has it.
        entrypoint: The image's own command, such as `[sys.executable, "-m", "webhook"]`.
        container: The container's name; the first one without it.
        replace: Arguments to exchange, such as a port that another pod has as well.
        environment: Variables on top.

    Attributes:
        paths: Each mount path, and where its files are on this machine.
        process: The process.
    """

    def __init__(
        self,
        control_plane: ControlPlane,
        node: HollowNode,
        pod: Mapping[str, Any],
        *,
        entrypoint: Sequence[str] = (),
        container: str | None = None,
        replace: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        chosen = container_view.container_of(pod, container)
        uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
        self.paths = container_view.mounted_paths(
            pod,
            chosen,
            lambda volume, kind: node.volume_of(uid, volume, kind=kind),
            node.host_path,
        )
        folder = control_plane.folder / "pods"
        folder.mkdir(mode=0o700, exist_ok=True)
        variables = container_view.environment_of(pod, chosen, self.paths)
        if _ACCOUNT in self.paths:
            variables["KUBECONFIG"] = str(
                _kubeconfig(folder / f"{uid}.kubeconfig", control_plane, self.paths[_ACCOUNT])
            )
        outside, seen = [], dict(self.paths)
        if container_view.mounts_for_others(chosen):
            outside, seen = node.entering, {KUBELET_FOLDER: node.root, **self.paths}
        said = [*(chosen.get("command") or entrypoint), *chosen.get("args", [])]
        exchanged = [(replace or {}).get(argument, argument) for argument in said]
        self.process = Process(
            name,
            [*outside, *(container_view.translated(each, seen) for each in exchanged)],
            log=folder / f"{name}.log",
            environment={**variables, **(environment or {})},
        )

    def _start(self) -> None:
        self.process.start()

    def close(self) -> None:
        """End the process now; its log stays with the cluster's."""
        self.process.end()
        super().close()


def _kubeconfig(path: Path, control_plane: ControlPlane, account: Path) -> Path:
    """The pod's own account, with the token that the kubelet renews."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "cluster",
                "cluster": {
                    "server": control_plane.server,
                    "certificate-authority": str(account / "ca.crt"),
                },
            }
        ],
        "users": [{"name": "pod", "user": {"tokenFile": str(account / "token")}}],
        "contexts": [{"name": "pod", "context": {"cluster": "cluster", "user": "pod"}}],
        "current-context": "pod",
    }
    return write_private(path, json.dumps(document).encode())
