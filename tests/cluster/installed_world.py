# SPDX-License-Identifier: Apache-2.0
"""A cluster with the control plane, installed by its manifests, and the demonstration's shop."""

from __future__ import annotations

import json
import os
import urllib.request
from contextlib import contextmanager

from cluster import ControlPlane, HollowNode, kubectl
from cluster.installation import Installation
from examples.demo_cluster.manifests import LEGACY, PLATFORM, pod
from examples.demo_cluster.shop import Shop
from tests.cluster.audit_log import PARTS, AuditLog
from tests.cluster.chart import SYSTEM
from tests.waiting import until


class Installed:
    """The cluster with control plane and shop."""

    def __init__(
        self, control_plane: ControlPlane, installation: Installation, shop: Shop, audit: AuditLog
    ) -> None:
        self.control_plane = control_plane
        self.api = control_plane.api
        self.installation = installation
        self.shop = shop
        self.audit = audit
        # Hollow nodes do not wait for readiness, so web may call before orders listens.
        until(lambda: shop.load()["requests"] > 100, timeout=60)
        self._failed_before = shop.load()["failed"]

    def failed(self):
        """Requests of web that failed since all was up."""
        return self.shop.load()["failed"] - self._failed_before

    def kubectl(self, *arguments):
        return kubectl.run(self.control_plane.kubeconfig, *arguments)

    def create(self, name, **changes):
        """Create a pod, and return it."""
        made = pod(name, **changes)
        namespace = made["metadata"]["namespace"]
        return self.api.post(f"/api/v1/namespaces/{namespace}/pods", made)

    def files(self, created, *, timeout=60):
        """The folder of a pod's volume, once the kubelet has written it."""
        metadata = created["metadata"]
        found = self.shop.single(metadata["namespace"], metadata["name"])
        folder = self.shop.volume_of(found)
        until((folder / "..data").exists, timeout=timeout)
        return folder

    def get(self, name, path):
        """Ask a part's pod for a path of its status port."""
        url = f"http://127.0.0.1:{self.installation.status_port(name)}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()

    def is_ready(self, part):
        """Whether both pods of a part answer, and say that they are ready."""
        try:
            names = self.installation.names(part)
            return len(names) == 2 and all(self.get(each, "/readyz")[0] == 200 for each in names)
        except (OSError, KeyError):
            return False

    def roll(self, part):
        """Replace all pods of a part, one by one, as an upgrade does."""
        before = set(self.installation.names(part))
        self.kubectl("rollout", "restart", f"--namespace={SYSTEM}", f"deployment/kubetls-{part}")
        until(lambda: not before & set(self.installation.names(part)), timeout=120)
        until(lambda: self.is_ready(part), timeout=60)

    def hurry(self):
        """Touch the parts' pods, so that their kubelets look at the ConfigMap at once."""
        self.kubectl(
            "annotate", "pods", "--all", "--overwrite", f"--namespace={SYSTEM}",
            f"example.org/touched={os.urandom(4).hex()}",
        )  # fmt: skip


@contextmanager
def installed_world(folder, audit_folder):
    """Install everything, and remove it at the end."""
    audit = AuditLog(audit_folder)
    with (
        ControlPlane(folder, options=audit.options) as control_plane,
        HollowNode(control_plane, "node-1") as first,
        HollowNode(control_plane, "node-2") as second,
    ):
        nodes = {first.name: first, second.name: second}
        with Installation(
            control_plane, nodes, platform=PLATFORM, secret_namespaces=(LEGACY,)
        ) as installation:
            for part in PARTS:
                wait_for_readiness(control_plane, part)
            with Shop(control_plane, nodes) as shop:
                yield Installed(control_plane, installation, shop, audit)


def wait_for_readiness(control_plane, part):
    """Give a new process the time to start, as a readiness probe would: hollow nodes ask none."""
    kubectl.run(
        control_plane.kubeconfig,
        "patch", f"deployment/kubetls-{part}", f"--namespace={SYSTEM}", "--type=merge",
        f"--patch={json.dumps({'spec': {'minReadySeconds': 12}})}",
    )  # fmt: skip
