# SPDX-License-Identifier: Apache-2.0
"""KubeTLS's control plane in real pods: its own image and its own manifests.

What differs from another cluster's installation: the image is imported, so that nobody pulls it.
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from cluster import binaries, kubectl
from cluster.node.compiled import compiled
from cluster.node.image import write_image
from cluster.node.tree import PYTHON_ENVIRONMENT, python_tree
from cluster.overlay import NAMESPACE, Overlay

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.control_plane import ControlPlane
    from cluster.node.real_node import RealNode
    from cluster.node.services import Services

# The name that the manifests have, as containerd completes it.
IMAGE = "docker.io/kubetls/webhook:0.1.0"
_USER = 65532
_SECONDS = 180


class NodeInstallation:
    """The control plane, installed on a real node.

    Args:
        control_plane: The cluster.
        node: Its node.
        services: For the way from the API server to the injector.
        overlay: What to apply.
    """

    def __init__(
        self, control_plane: ControlPlane, node: RealNode, services: Services, overlay: Overlay
    ) -> None:
        self._control_plane = control_plane
        self._node = node
        self._services = services
        self._overlay = overlay

    def install(self) -> None:
        """Import the image, apply the manifests, and wait until every pod says that it is ready.

        Raises:
            ClusterError: The manifests are refused, or pods are not ready in time.
        """
        path = self._node.folder / "webhook.tar"
        self._node.import_image(write_webhook_image(path))
        path.unlink()
        self._overlay.apply(self._control_plane)
        self._services.serve(NAMESPACE, "kubetls-injector")
        for part in (*self._overlay.parts, *self._overlay.node_parts):
            self.wait(part)

    def wait(self, part: str) -> None:
        """Wait until all pods of a part are as they should be."""
        rollout = ("rollout", "status", f"--namespace={NAMESPACE}", self._workload(part))
        kubectl.run(
            self._control_plane.kubeconfig, *rollout, f"--timeout={_SECONDS}s", seconds=_SECONDS + 5
        )

    def roll(self, part: str) -> None:
        """Replace all pods of a part."""
        order = ("rollout", "restart", f"--namespace={NAMESPACE}", self._workload(part))
        kubectl.run(self._control_plane.kubeconfig, *order)
        self.wait(part)

    def _workload(self, part: str) -> str:
        kind = "daemonset" if part in self._overlay.node_parts else "deployment"
        return f"{kind}/kubetls-{part}"

    def pods(self, part: str) -> list[dict[str, Any]]:
        """The pods of a part."""
        query = f"labelSelector=app.kubernetes.io/component%3D{part}"
        path = f"/api/v1/namespaces/{NAMESPACE}/pods?{query}"
        found: list[dict[str, Any]] = self._control_plane.api.get(path)["items"]
        return found


def write_webhook_image(path: Path) -> Path:
    """Write the image of the control plane, with what `webhook/Dockerfile` has in it."""
    groups = tomllib.loads((binaries.ROOT / "pyproject.toml").read_text())["dependency-groups"]
    requirements = ["kubetls-sdk[asgi,fast,cli,metrics,federation]", *groups["webhook"]]
    packages = [binaries.ROOT / "kubetls_sdk", binaries.ROOT / "webhook"]
    return write_image(
        path,
        IMAGE,
        compiled(python_tree(requirements, packages)),
        command=["python3", "-m", "webhook"],
        environment=PYTHON_ENVIRONMENT,
        user=_USER,
    )
