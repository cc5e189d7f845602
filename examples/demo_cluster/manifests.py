# SPDX-License-Identifier: Apache-2.0
"""What the two teams of the demo write: the platform its configuration, the shop its manifests.

The shop's are `examples/kubernetes`; single pods beside them are made here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = (
    "DRIVEN",
    "FOLDER",
    "FOREIGN_SIGNER",
    "LEGACY",
    "NAMESPACE",
    "ORDERS_URL",
    "PLATFORM",
    "PLATFORM_WITH_DRIVER",
    "PORT",
    "pod",
)

NAMESPACE = "shop"
LEGACY = "legacy"
DRIVEN = "driven"
PORT = "8443"
ORDERS_URL = f"https://orders.shop.svc:{PORT}"
FOREIGN_SIGNER = "kubetls.gauntletwizard.net/vault"
PLATFORM = """\
version: 1
zones:
  - {name: default, trustDomain: example.org, propagation: 60s}
  - {name: vault, trustDomain: vault.example.org}
namespaces:
  - names: [vault]
    zones: [vault]
  - {names: [legacy], modes: [secret]}
  - names: [shop]
    zones: [default]
    lifetime: {default: 1h, maximum: 24h}
"""
PLATFORM_WITH_DRIVER = f"{PLATFORM}  - {{names: [{DRIVEN}], modes: [csi]}}\n"
FOLDER = Path(__file__).parents[1] / "kubernetes"
"""What the shop's team writes: the example that a user applies to a cluster of their own."""
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod(name: str, **changes: Any) -> dict[str, Any]:
    """A single pod of the shop.

    Args:
        name: Its name.
        changes: `namespace`, `labels`, `annotations`, `volumes`.
    """
    metadata = {key: changes[key] for key in ("labels", "annotations") if key in changes}
    namespace = changes.get("namespace", NAMESPACE)
    account = "guest" if namespace == NAMESPACE else "default"
    spec = {"serviceAccountName": account, "containers": [_container(name, ["sleep", "infinity"])]}
    if "volumes" in changes:
        spec["volumes"] = changes["volumes"]
    metadata |= {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _container(name: str, command: list[str]) -> dict[str, Any]:
    image = f"shop/{name}"
    return {"name": name, "image": image, "command": command, "securityContext": _RESTRICTED}
