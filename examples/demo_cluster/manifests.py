# SPDX-License-Identifier: Apache-2.0
"""What the two teams of the demo write: the platform its configuration, the shop its Deployments.

Nothing in a Deployment speaks of certificates: the injector adds the volume.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = (
    "FOREIGN_SIGNER",
    "LEGACY",
    "NAMESPACE",
    "ORDERS_URL",
    "PLATFORM",
    "PORT",
    "objects",
    "pod",
)

NAMESPACE = "shop"
LEGACY = "legacy"
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
_ROOT = Path(__file__).parents[2]
_WEB = [
    "python", "-m", "examples.demo_cluster.web", ORDERS_URL, "8",
]  # fmt: skip
_ORDERS = [
    "kubetls", "serve", "examples.demo.orders:app", "--port", PORT,
    "--policy", str(Path(__file__).with_name("policy.yaml")), "--app-dir", str(_ROOT),
]  # fmt: skip


def objects() -> list[dict[str, Any]]:
    """Everything of the namespace, in the order in which it is applied."""
    return [
        _object("v1", "Namespace", NAMESPACE),
        *(_object("v1", "ServiceAccount", name) for name in ("web", "orders", "guest")),
        _object(
            "v1", "Service", "orders",
            spec={"selector": {"app": "orders"}, "ports": [{"port": int(PORT)}]},
        ),
        _deployment("orders", _ORDERS, replicas=2),
        _deployment("web", _WEB),
        _deployment("guest", ["sleep", "infinity"]),
    ]  # fmt: skip


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
    return _object("v1", "Pod", name, more={"namespace": namespace, **metadata}, spec=spec)


def _deployment(name: str, command: list[str], *, replicas: int = 1) -> dict[str, Any]:
    labels = {"app": name}
    spec = {
        "serviceAccountName": name,
        "terminationGracePeriodSeconds": 20,
        "containers": [_container(name, command)],
    }
    return _object(
        "apps/v1", "Deployment", name,
        spec={
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "minReadySeconds": 5,
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    )  # fmt: skip


def _container(name: str, command: list[str]) -> dict[str, Any]:
    return {"name": name, "image": f"shop/{name}", "command": command}


def _object(
    version: str, kind: str, name: str, *, more: dict[str, Any] | None = None, **content: Any
) -> dict[str, Any]:
    place = {} if kind == "Namespace" else {"namespace": NAMESPACE}
    metadata = {"name": name, **place, **(more or {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}
