# SPDX-License-Identifier: Apache-2.0
"""KubeTLS's control plane in a cluster of hollow nodes, installed by its own manifests.

Its pods are created by the real Deployments and scheduled onto hollow nodes, whose kubelets write
their volumes and tokens. What their containers would run, runs as processes of this machine, with
the rights of the pods' own service accounts.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from cluster import binaries, kubectl, lifetime
from cluster.exceptions import StartError
from cluster.pod_runner import PodRunner
from cluster.service_address import ServiceAddress
from webhook.config import PlatformConfig
from webhook.names import ca_secret

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from cluster.control_plane import ControlPlane
    from cluster.hollow_node import HollowNode

NAMESPACE = "kubetls-system"
_KUSTOMIZE = binaries.ROOT / "webhook" / "manifests" / "kustomize"
_WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/kubetls-injector"
_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
_SECONDS = 60.0
_REVIEW_PORT, _STATUS_PORT = "8443", "8080"


class Installation:
    """The installed control plane, as a context manager.

    Args:
        control_plane: The cluster.
        nodes: Its hollow nodes by name.
        platform: The platform's configuration, YAML.
        secret_namespaces: Where the secret issuer may write, made here; none: it is not installed.
        replicas: Of each part.

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
    ) -> None:
        self._control_plane = control_plane
        self._secret_namespaces = secret_namespaces
        self._replicas = replicas
        self._stack = ExitStack()
        self._folder = control_plane.folder / "installation"
        self.platform = platform
        self.runner = PodRunner(
            control_plane,
            nodes,
            NAMESPACE,
            entrypoint=[sys.executable, "-m", "webhook"],
            ports=(_REVIEW_PORT, _STATUS_PORT),
            environment={"PYTHONPATH": str(binaries.ROOT)},
        )

    def __enter__(self) -> Self:
        lifetime.adopt(self)
        try:
            self._install()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; the manifests stay."""
        self._stack.close()
        lifetime.release(self)

    def names(self, part: str) -> list[str]:
        """The names of a part's pods: `injector`, `signer` or `secret-issuer`."""
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

    def _install(self) -> None:
        self._write_overlay()
        kubectl.run(
            self._control_plane.kubeconfig,
            "apply", "--server-side", f"--kustomize={self._folder}",
        )  # fmt: skip
        for namespace in self._secret_namespaces:
            self._let_secrets_into(namespace)
        address = self._stack.enter_context(ServiceAddress(self._review_ports))
        self._use_address(f"https://127.0.0.1:{address.port}/mutate")
        parts = 2 + bool(self._secret_namespaces)
        self._stack.enter_context(self.runner)
        self._wait_for_pods(parts * self._replicas)

    def _write_overlay(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        (self._folder / "platform.yaml").write_text(self.platform)
        used = [_KUSTOMIZE / "secret-issuer"] if self._secret_namespaces else []
        document = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": NAMESPACE,
            "resources": [os.path.relpath(_KUSTOMIZE / "base", self._folder)],
            "components": [os.path.relpath(each, self._folder) for each in used],
            "configMapGenerator": [{"name": "kubetls-config", "files": ["platform.yaml"]}],
            "generatorOptions": {"disableNameSuffixHash": True},
            "patches": _rights_for_zones(self.platform),
            "replicas": [
                {"name": f"kubetls-{part}", "count": self._replicas}
                for part in ("injector", "signer", *(["secret-issuer"] if used else []))
            ],
        }
        (self._folder / "kustomization.yaml").write_text(json.dumps(document))

    def _let_secrets_into(self, namespace: str) -> None:
        """Enable the Secret mode in a namespace, as the documentation says."""
        binding = (_KUSTOMIZE / "example" / "namespace-with-secrets.yaml").read_text()
        for manifest in (
            json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
            binding.replace("namespace: shop", f"namespace: {namespace}"),
        ):
            arguments = ("apply", "--server-side", "--filename=-")
            kubectl.run(self._control_plane.kubeconfig, *arguments, stdin=manifest)

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


def _rights_for_zones(platform: str) -> list[dict[str, Any]]:
    """What each zone beside `default` adds to the signer's rights, as the documentation says."""
    zones = [
        zone for zone in PlatformConfig.parse(platform).zones.values() if zone.name != "default"
    ]
    if not zones:
        return []
    secrets = {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": [ca_secret(zone.name) for zone in zones],
        "verbs": ["get", "list", "watch", "update"],
    }
    signers = {
        "apiGroups": ["certificates.k8s.io"],
        "resources": ["signers"],
        "resourceNames": [zone.signer_name for zone in zones],
        "verbs": ["sign", "approve", "attest"],
    }
    return [_added_rule("Role", secrets), _added_rule("ClusterRole", signers)]


def _added_rule(kind: str, rule: dict[str, Any]) -> dict[str, Any]:
    patch = [{"op": "add", "path": "/rules/-", "value": rule}]
    return {"target": {"kind": kind, "name": "kubetls-signer"}, "patch": json.dumps(patch)}
