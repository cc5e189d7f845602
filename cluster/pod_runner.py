# SPDX-License-Identifier: Apache-2.0
"""Runs what the containers of a namespace's pods would run, as pods come and go.

A pod's process starts when its node has written its volumes, gets SIGTERM when the pod is to end,
and is killed after its grace period. Its hook has no time to sleep: a hollow node removes the
volumes as soon as its pretended containers have ended. Ports that its arguments name are exchanged
for free ones. A pod with our readiness gate is ready once its process answers.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster import lifetime
from cluster.exceptions import ClusterError
from cluster.pod_process import PodProcess
from cluster.ports import free_ports
from cluster.readiness_gate import answers_probe, is_waiting, open_gate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cluster.control_plane import ControlPlane
    from cluster.hollow_node import HollowNode

_LOOK_SECONDS = 0.1
_JOIN_SECONDS = 10.0


@dataclass(slots=True)
class RunningPod:
    """One pod and its process.

    Attributes:
        pod: As the API server had it when the process started.
        process: The process.
        ports: The container's ports, and the ones that the process listens on.
        kill_at: Monotonic seconds; None while the pod is not to end.
    """

    pod: Mapping[str, Any]
    process: PodProcess
    ports: Mapping[str, int]
    kill_at: float | None = None

    @property
    def labels(self) -> Mapping[str, str]:
        """The pod's labels."""
        found: Mapping[str, str] = self.pod["metadata"].get("labels", {})
        return found

    @property
    def is_serving(self) -> bool:
        """Whether a Service would send requests to it."""
        return self.kill_at is None and self.process.process.is_running


class PodRunner(lifetime.Owned):
    """The processes of a namespace, as a context manager.

    Args:
        control_plane: The cluster.
        nodes: Its hollow nodes by name.
        namespace: Whose pods.
        entrypoint: Of images; pods may say another command.
        ports: Port numbers in arguments that are exchanged for free ones.
        replace: Other arguments to exchange, such as the URL of a Service.
        environment: Variables on top.

    Attributes:
        pods: The running ones by name.
    """

    def __init__(
        self,
        control_plane: ControlPlane,
        nodes: Mapping[str, HollowNode],
        namespace: str,
        *,
        entrypoint: Sequence[str] = (),
        ports: Sequence[str] = (),
        replace: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._control_plane = control_plane
        self._nodes = nodes
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._entrypoint = entrypoint
        self._ports = ports
        self._replace = dict(replace or {})
        self._environment = environment
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pods-{namespace}", daemon=True)
        self._ended: set[str] = set()
        self.pods: dict[str, RunningPod] = {}

    def _start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End all processes."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)
        for running in self.pods.values():
            running.process.close()
        super().close()

    def ports_of(self, port: str, **labels: str) -> list[int]:
        """Where the pods of a Service listen.

        Args:
            port: The container's port.
            labels: The Service's selector.
        """
        return [
            running.ports[port]
            for running in list(self.pods.values())
            if running.is_serving and labels.items() <= running.labels.items()
        ]

    def restart(self, name: str) -> None:
        """Kill a pod's process and start it again, as the kubelet does with a container."""
        process = self.pods[name].process.process
        process.end()
        process.start()

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            with contextlib.suppress(OSError, ClusterError):  # The API server may be restarted.
                self._look()

    def _look(self) -> None:
        found = {
            pod["metadata"]["name"]: pod for pod in self._control_plane.api.get(self._path)["items"]
        }
        for name, pod in found.items():
            is_known = name in self.pods or pod["metadata"]["uid"] in self._ended
            if not is_known and pod["status"].get("phase") == "Running":
                self._run_pod(name, pod)
        for name, running in list(self.pods.items()):
            pod = found.get(name)
            if pod is None or "deletionTimestamp" in pod["metadata"]:
                self._end(name, running)
            elif is_waiting(pod) and answers_probe(pod, running.ports):
                open_gate(self._control_plane.api, pod)

    def _run_pod(self, name: str, pod: Mapping[str, Any]) -> None:
        if "deletionTimestamp" in pod["metadata"] or pod["spec"]["nodeName"] not in self._nodes:
            return
        ports = dict(zip(self._ports, free_ports(len(self._ports)), strict=True))
        process = PodProcess(
            self._control_plane,
            self._nodes[pod["spec"]["nodeName"]],
            pod,
            entrypoint=self._entrypoint,
            replace=self._replace | {port: str(free) for port, free in ports.items()},
            environment=self._environment,
        )
        process.__enter__()
        self.pods[name] = RunningPod(pod, process, ports)

    def _end(self, name: str, running: RunningPod) -> None:
        process = running.process.process
        if running.kill_at is None:
            grace = running.pod["spec"].get("terminationGracePeriodSeconds", 30)
            running.kill_at = time.monotonic() + grace
            process.send(signal.SIGTERM)
        if not process.is_running or time.monotonic() > running.kill_at:
            running.process.close()
            self._ended.add(running.pod["metadata"]["uid"])
            del self.pods[name]
