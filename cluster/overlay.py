# SPDX-License-Identifier: Apache-2.0
"""What a platform team writes around our kustomize base, and applies."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster import binaries, kubectl
from webhook.config import PlatformConfig
from webhook.names import CSI_DRIVER, ca_secret

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.control_plane import ControlPlane

NAMESPACE = "kubetls-system"
_KUSTOMIZE = binaries.ROOT / "webhook" / "manifests" / "kustomize"


@dataclass(frozen=True, slots=True)
class NodeDriver:
    """How the node driver is installed.

    Attributes:
        audience: Of the pods' tokens; empty is the API server's own.
        arguments: Further ones of its command.
    """

    audience: str = ""
    arguments: tuple[str, ...] = ()

    @classmethod
    def where(cls, *, may_mount: bool, audience: str = "") -> NodeDriver:
        """The driver for nodes whose pods may mount, or may not: then with plain folders."""
        return cls(audience, () if may_mount else ("--placement", "folders"))

    def patches(self) -> list[dict[str, Any]]:
        """What it takes, as patches of kustomize."""
        audience = ("--token-audience", self.audience) if self.audience else ()
        path = "/spec/template/spec/containers/0/args/-"
        added = [*self.arguments, *audience]
        arguments = [{"op": "add", "path": path, "value": each} for each in added]
        asked = {
            "op": "replace",
            "path": "/spec/tokenRequests/0/audience",
            "value": self.audience,
        }
        return [
            {"target": {"kind": "DaemonSet"}, "patch": json.dumps(arguments)},
            {"target": {"kind": "CSIDriver", "name": CSI_DRIVER}, "patch": json.dumps([asked])},
        ]


class Overlay:
    """An installation as manifests.

    Args:
        platform: The platform's configuration, YAML.
        secret_namespaces: Where the secret issuer may write, made here; none: it is not installed.
        replicas: Of each part.
        pull_policy: Of the image, instead of the base's.
        driver: The node driver; None: it is not installed.
    """

    def __init__(
        self,
        platform: str,
        *,
        secret_namespaces: tuple[str, ...] = (),
        replicas: int = 2,
        pull_policy: str | None = None,
        driver: NodeDriver | None = None,
    ) -> None:
        self._driver = driver
        self._platform = platform
        self._secret_namespaces = secret_namespaces
        self._replicas = replicas
        self._pull_policy = pull_policy

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that are installed; their Deployments are `kubetls-<part>`."""
        return ("injector", "signer", *(["secret-issuer"] if self._secret_namespaces else []))

    @property
    def node_parts(self) -> tuple[str, ...]:
        """The parts that are installed on each node; their DaemonSets are `kubetls-<part>`."""
        return ("node",) if self._driver else ()

    def apply(self, control_plane: ControlPlane) -> None:
        """Write the overlay into the cluster's folder and apply it."""
        folder = control_plane.folder / "installation"
        self._write(folder)
        kubectl.run(control_plane.kubeconfig, "apply", "--server-side", f"--kustomize={folder}")
        for namespace in self._secret_namespaces:
            _let_secrets_into(namespace, control_plane.kubeconfig)

    def _write(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "platform.yaml").write_text(self._platform)
        used = [_KUSTOMIZE / "secret-issuer"] if self._secret_namespaces else []
        used += [_KUSTOMIZE / "csi"] if self._driver else []
        document = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": NAMESPACE,
            "resources": [os.path.relpath(_KUSTOMIZE / "base", folder)],
            "components": [os.path.relpath(each, folder) for each in used],
            "configMapGenerator": [{"name": "kubetls-config", "files": ["platform.yaml"]}],
            "generatorOptions": {"disableNameSuffixHash": True},
            "patches": [
                *_rights_for_zones(self._platform),
                *self._pulling(),
                *(self._driver.patches() if self._driver else ()),
            ],
            "replicas": [
                {"name": f"kubetls-{part}", "count": self._replicas} for part in self.parts
            ],
        }
        (folder / "kustomization.yaml").write_text(json.dumps(document))

    def _pulling(self) -> list[dict[str, Any]]:
        if self._pull_policy is None:
            return []
        path = "/spec/template/spec/containers/0/imagePullPolicy"
        patch = [{"op": "replace", "path": path, "value": self._pull_policy}]
        return [{"target": {"kind": "Deployment|DaemonSet"}, "patch": json.dumps(patch)}]


def _let_secrets_into(namespace: str, kubeconfig: Path) -> None:
    """Enable the Secret mode in a namespace, as the documentation says."""
    binding = (_KUSTOMIZE / "example" / "namespace-with-secrets.yaml").read_text()
    for manifest in (
        json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        binding.replace("namespace: shop", f"namespace: {namespace}"),
    ):
        kubectl.run(kubeconfig, "apply", "--server-side", "--filename=-", stdin=manifest)


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
