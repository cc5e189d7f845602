# SPDX-License-Identifier: Apache-2.0
"""The shop in the cluster: its pods, their processes, and the files that the kubelets wrote."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from cluster import kubectl
from cluster.exceptions import ClusterError
from cluster.pod_runner import PodRunner
from cluster.readiness_gate import gated
from cluster.service_address import ServiceAddress
from examples.demo_cluster.manifests import FOLDER, NAMESPACE, ORDERS_URL, PORT
from kubetls_sdk.volume_source import VolumeSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from cluster import ControlPlane, HollowNode
    from kubetls_sdk.source import Snapshot

__all__ = ("Shop",)

_VOLUME = "kubetls"
_HEALTH_PORT, _EVERYWHERE = "8080", "0.0.0.0"  # noqa: S104 - what the manifests say
_SECONDS = 90.0


class Shop:
    """The running shop, as a context manager.

    Args:
        control_plane: The cluster.
        nodes: Its hollow nodes by name.
    """

    def __init__(self, control_plane: ControlPlane, nodes: Mapping[str, HollowNode]) -> None:
        self._control_plane = control_plane
        self._nodes = nodes
        self._stack = ExitStack()
        self._address = ServiceAddress(lambda: self._runner.ports_of(PORT, app="orders"))
        scripts = Path(sys.executable).parent
        self._runner = PodRunner(
            control_plane,
            nodes,
            NAMESPACE,
            ports=(PORT, _HEALTH_PORT),
            replace={ORDERS_URL: self.orders_url, _EVERYWHERE: "127.0.0.1"},
            environment={
                "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
                "PYTHONPATH": str(FOLDER),
            },
        )

    def __enter__(self) -> Self:
        self._stack.enter_context(self._address)
        config = self._control_plane.kubeconfig
        manifests = yaml.safe_load_all(kubectl.run(config, "kustomize", str(FOLDER)))
        callers, others = [], []
        for each in manifests:
            (callers if _name(each) == ("Deployment", "web") else others).append(gated(each))
        self.apply(*others)
        self._stack.enter_context(self._runner)
        self.wait(lambda: len(self.serving("orders")) == 2, "two pods of orders")
        self.wait(self._is_listening, "pods of orders that accept connections")
        self.apply(*callers)  # What it sends counts from the first request on.
        self.wait(lambda: self.serving("web") and self.serving("guest"), "pods of web and guest")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def orders_url(self) -> str:
        """Where this machine reaches the Service orders."""
        return f"https://127.0.0.1:{self._address.port}"

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply manifests.

        Raises:
            ClusterError: The API server, or our injector, refuses one.
        """
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        arguments = ("apply", "--server-side", "--filename=-")
        kubectl.run(self._control_plane.kubeconfig, *arguments, stdin=document)

    def delete(self, name: str, *, namespace: str = NAMESPACE) -> None:
        """Delete a single pod, and wait until it is gone."""
        arguments = ("delete", "pod", name, f"--namespace={namespace}", "--grace-period=1")
        kubectl.run(self._control_plane.kubeconfig, *arguments)

    def pods(self) -> list[dict[str, Any]]:
        """All pods of the shop."""
        return self._items(f"/api/v1/namespaces/{NAMESPACE}/pods")

    def requests(self) -> list[dict[str, Any]]:
        """The requests for pod certificates of the shop."""
        return self._items(
            f"/apis/certificates.k8s.io/v1/namespaces/{NAMESPACE}/podcertificaterequests"
        )

    def signing_requests(self) -> list[dict[str, Any]]:
        """All certificate signing requests: node drivers ask by them, as the pod."""
        return self._items("/apis/certificates.k8s.io/v1/certificatesigningrequests")

    def secrets(self, namespace: str = NAMESPACE) -> list[dict[str, Any]]:
        """The Secrets of a namespace; in the shop there ought to be none."""
        return self._items(f"/api/v1/namespaces/{namespace}/secrets")

    def serving(self, app: str) -> list[str]:
        """The names of an application's pods that are running and not about to end."""
        return sorted(
            name
            for name, running in list(self._runner.pods.items())
            if running.is_serving and running.labels.get("app") == app
        )

    def pod(self, app: str) -> dict[str, Any]:
        """One of an application's pods."""
        return dict(self._runner.pods[self.serving(app)[0]].pod)

    def volume_of(self, pod: Mapping[str, Any]) -> Path:
        """Where the kubelet wrote the volume of a pod."""
        node = self._nodes[pod["spec"]["nodeName"]]
        found = next(each for each in pod["spec"]["volumes"] if each["name"] == _VOLUME)
        kind = next(each for each in ("secret", "csi", "projected") if each in found)
        return node.volume_of(pod["metadata"]["uid"], _VOLUME, kind=kind)

    def single(self, namespace: str, name: str) -> dict[str, Any]:
        """A pod, once it has a node."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        get = self._control_plane.api.get
        self.wait(lambda: "nodeName" in get(path)["spec"], f"a node for the pod {name}")
        return get(path)

    def snapshot_of(self, pod: Mapping[str, Any]) -> Snapshot:
        """What the SDK reads in a pod's volume."""
        with VolumeSource(self.volume_of(pod)) as source:
            return source.snapshot

    def snapshots(self) -> list[Snapshot]:
        """What the SDK reads in the volume of each pod of an application."""
        names = {name for app in ("orders", "web", "guest") for name in self.serving(app)}
        running = list(self._runner.pods.items())
        return [self.snapshot_of(each.pod) for name, each in running if name in names]

    def load(self) -> dict[str, Any]:
        """What all processes of web say that they have seen, added up."""
        total: Counter[str] = Counter(requests=0, repeated=0, failed=0)
        failures: Counter[str] = Counter()
        for log in (self._control_plane.folder / "pods").glob("web-*.log"):
            line = _last_line(log)
            total.update({key: line.get(key, 0) for key in total})
            failures.update(line.get("failures", {}))
        return {**total, "failures": dict(failures)}

    def roll(self, *apps: str) -> None:
        """Replace all pods of applications, as `kubectl rollout restart` does."""
        run, config = kubectl.run, self._control_plane.kubeconfig
        before = {app: set(self.serving(app)) for app in apps}
        for app in apps:
            run(config, "rollout", "restart", f"--namespace={NAMESPACE}", f"deployment/{app}")
        for app in apps:
            self.wait(
                lambda app=app: (  # type: ignore[misc]
                    len(now := set(self.serving(app))) == len(before[app]) and not now & before[app]
                ),
                f"the pods of {app} to be replaced",
            )

    def wait(self, condition: Callable[[], object], what: str, seconds: float = _SECONDS) -> float:
        """Wait until something is so, and return the seconds that it took.

        Raises:
            ClusterError: It is not so in time.
        """
        started = time.monotonic()
        while not condition():
            if time.monotonic() - started > seconds:
                raise ClusterError(f"expected {what} within {seconds:.0f} s")
            time.sleep(0.05)  # Neither files nor the API server tell of all this in one place.
        return time.monotonic() - started

    def _is_listening(self) -> bool:
        for port in self._runner.ports_of(PORT, app="orders"):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                return False
        return True

    def _items(self, path: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._control_plane.api.get(path)["items"]
        return items


def _name(manifest: Mapping[str, Any]) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def _last_line(log: Path) -> dict[str, Any]:
    for line in reversed(log.read_text(errors="replace").splitlines()):
        if line.startswith("{") and line.endswith("}"):
            found: dict[str, Any] = json.loads(line)
            return found
    return {}
