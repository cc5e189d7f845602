# SPDX-License-Identifier: Apache-2.0
"""KubeTLS's control plane in a cluster of hollow nodes, installed by its own manifests.

Its pods are created by the real Deployments and scheduled onto hollow nodes, whose kubelets write
their volumes and tokens. What their containers would run, runs as processes of this machine, with
the rights of the pods' own service accounts.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from cluster import binaries, lifetime
from cluster.exceptions import StartError
from cluster.overlay import NAMESPACE, NodeDriver, Overlay
from cluster.pod_runner import PodRunner
from cluster.service_address import ServiceAddress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.control_plane import ControlPlane
    from cluster.hollow_node import HollowNode

_WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/kubetls-injector"
_SECONDS = 60.0
_REVIEW_PORT, _STATUS_PORT = "8443", "8080"


class Installation(lifetime.Owned):
    """The installed control plane, as a context manager.

    Args:
        control_plane: The cluster.
        nodes: Its hollow nodes by name.
        platform: The platform's configuration, YAML.
        secret_namespaces: Where the secret issuer may write, made here; none: it is not installed.
        replicas: Of each part.
        driver: The node driver, which then runs on each node; None: it is not installed.

    Attributes:
        runner: The parts' processes.
        platform: The configuration in force.
    """

    def __init__(
        self,
        control_plane: ControlPlane,
        nodes: Mapping[str, HollowNode],
        *,
        platform: str,
        secret_namespaces: tuple[str, ...] = (),
        replicas: int = 2,
        driver: NodeDriver | None = None,
    ) -> None:
        self._control_plane = control_plane
        self._driver, self._drivers = driver, len(nodes) if driver else 0
        self._secret_namespaces = secret_namespaces
        self._replicas = replicas
        self._stack = ExitStack()
        self.platform = platform
        self.runner = PodRunner(
            control_plane,
            nodes,
            NAMESPACE,
            entrypoint=[sys.executable, "-m", "webhook"],
            ports=(_REVIEW_PORT, _STATUS_PORT),
            environment={"PYTHONPATH": str(binaries.ROOT)},
        )

    def close(self) -> None:
        """End the processes; the manifests stay."""
        self._stack.close()
        super().close()

    def names(self, part: str) -> list[str]:
        """The names of a part's pods: `injector`, `signer`, `secret-issuer` or `node`."""
        return sorted(name for name in self.runner.pods if name.startswith(f"kubetls-{part}-"))

    def status_port(self, name: str) -> int:
        """Where probes and metrics of a pod are."""
        return self.runner.pods[name].ports[_STATUS_PORT]

    def _review_ports(self) -> list[int]:
        labels = {"app.kubernetes.io/component": "injector"}
        return self.runner.ports_of(_REVIEW_PORT, **labels)

    def configure(self, platform: str) -> None:
        """Change the platform's configuration; the kubelets bring it to the processes."""
        self.platform = platform
        path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/kubetls-config"
        found = self._control_plane.api.get(path)
        found["data"] = {"platform.yaml": platform}
        self._control_plane.api.put(path, found)

    def _start(self) -> None:
        overlay = Overlay(
            self.platform,
            secret_namespaces=self._secret_namespaces,
            replicas=self._replicas,
            driver=self._driver,
        )
        overlay.apply(self._control_plane)
        address = self._stack.enter_context(ServiceAddress(self._review_ports))
        self._use_address(f"https://127.0.0.1:{address.port}/mutate")
        parts = 2 + bool(self._secret_namespaces)
        self._stack.enter_context(self.runner)
        self._wait_for_pods(parts * self._replicas + self._drivers)

    def _use_address(self, url: str) -> None:
        """Let the API server, which knows no cluster network here, find the injector."""
        found = self._control_plane.api.get(_WEBHOOKS)
        for webhook in found["webhooks"]:
            webhook["clientConfig"].pop("service", None)
            webhook["clientConfig"]["url"] = url
        self._control_plane.api.put(_WEBHOOKS, found)

    def _wait_for_pods(self, count: int) -> None:
        deadline = time.monotonic() + _SECONDS
        while len(self.runner.pods) < count:
            if time.monotonic() > deadline:
                raise StartError(
                    f"expected {count} pods in {NAMESPACE} with their volumes in {_SECONDS:.0f} s,"
                    f" got {', '.join(self.runner.pods) or 'none'}"
                )
            time.sleep(0.1)  # The API server has no event for it that is simpler than asking.
