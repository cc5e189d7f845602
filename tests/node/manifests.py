# SPDX-License-Identifier: Apache-2.0
"""The shop of the demonstration for real containers: what its team writes, with one image.

Rules:
1. Nothing in here speaks of certificates.
"""

from __future__ import annotations

from typing import Any

IMAGE = "kubetls.example/shop:1"
NAMESPACE = "shop"
IMAGE_USER = 65532
ORDERS_USER = 10001
IDLE = ["python3", "-c", "import signal; signal.pause()"]
_ORDERS = [
    "kubetls", "serve", "examples.demo.orders:app", "--host", "0.0.0.0",
    "--policy", "/app/examples/kubernetes/policy.yaml", "--health-port", "8080",
]  # fmt: skip
_WEB = ["python3", "-m", "examples.kubernetes.web", "https://orders.shop.svc:8443", "2"]
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def foundation() -> list[dict[str, Any]]:
    """The namespace, which admits restricted pods only, the accounts, and the Service."""
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    service = {"selector": {"app": "orders"}, "ports": [{"port": 8443}]}
    accounts = [_object("v1", "ServiceAccount", name) for name in ("orders", "web", "guest")]
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": restricted},
        },
        *accounts,
        _object("v1", "Service", "orders", service),
    ]


def orders() -> dict[str, Any]:
    """Serves over mutual TLS; it goes on for a moment when it is to end, as Services need it."""
    container = {
        **_container(_ORDERS),
        "ports": [{"containerPort": 8443}, {"name": "health", "containerPort": 8080}],
        "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "health"}, "periodSeconds": 1},
        "livenessProbe": {
            "httpGet": {"path": "/livez", "port": "health"},
            "timeoutSeconds": 5,
            "initialDelaySeconds": 30,
        },
    }
    security = {"runAsNonRoot": True, "runAsUser": ORDERS_USER}
    return deployment("orders", container, replicas=2, securityContext=security)


def web(orders_address: str) -> dict[str, Any]:
    """Calls orders without a pause."""
    return deployment("web", _container(_WEB), hostAliases=hosts(orders_address))


def guest(orders_address: str) -> dict[str, Any]:
    """Is there, and may nothing."""
    container, ending = _container(IDLE), {"terminationGracePeriodSeconds": 0}
    return deployment("guest", container, hostAliases=hosts(orders_address), **ending)


def hosts(orders_address: str) -> list[dict[str, Any]]:
    """The address of orders for a pod's hosts file, as there is no DNS here."""
    return [{"ip": orders_address, "hostnames": ["orders.shop.svc"]}]


def idle(name: str, *, namespace: str = NAMESPACE, **spec: Any) -> dict[str, Any]:
    """A single pod that does nothing.

    Args:
        name: Of the pod.
        namespace: Of the pod.
        spec: Fields of its spec.
    """
    made = _object("v1", "Pod", name, {**_idle_spec(), **spec})
    made["metadata"] |= {"namespace": namespace, "labels": {"app": name}}
    return made


def deployment(
    name: str, container: dict[str, Any], *, replicas: int = 1, **spec: Any
) -> dict[str, Any]:
    """A Deployment whose pods have the service account of its name."""
    labels = {"app": name}
    pod = {"serviceAccountName": name, "containers": [container], "enableServiceLinks": False}
    content = {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": labels}, "spec": {**pod, **spec}},
    }
    return _object("apps/v1", "Deployment", name, content)


def _idle_spec() -> dict[str, Any]:
    return {"containers": [_container(IDLE)], "terminationGracePeriodSeconds": 0}


def _container(command: list[str]) -> dict[str, Any]:
    security = {**_RESTRICTED, "runAsNonRoot": True}
    return {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": command,
        "securityContext": security,
    }


def _object(
    version: str, kind: str, name: str, spec: dict[str, Any] | None = None
) -> dict[str, Any]:
    content = {} if spec is None else {"spec": spec}
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}
