# SPDX-License-Identifier: Apache-2.0
"""Pods on a real node: what they see, whom they reach, and that nothing of them stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kubetls_sdk
from cluster import ControlPlane, binaries
from cluster.node import RealNode
from cluster.node.control_groups import remove_groups
from tests.cluster.pods import certificate_volume, pod
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNER = "signer.example/workload"


def run(control_plane: ControlPlane, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
    """Create a pod for the real node; it does not wait for signals, so it ends at once."""
    spec = {"nodeName": "real-1", "terminationGracePeriodSeconds": 0, "restartPolicy": "Never"}
    body["spec"] |= spec
    return control_plane.api.post(f"/api/v1/namespaces/{namespace}/pods", body)


def container(body: dict[str, Any], image: str, *arguments: str) -> dict[str, Any]:
    """Let the pod's container run an image of the node."""
    ours = {"image": image, "imagePullPolicy": "Never", "args": list(arguments)}
    body["spec"]["containers"][0] |= ours
    return body


def phase(control_plane: ControlPlane, namespace: str, name: str) -> str:
    return control_plane.api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")["status"]["phase"]


def output(control_plane: ControlPlane, node: RealNode, namespace: str, name: str) -> str:
    """What a pod has written when it has ended well."""
    ended = until(
        lambda: {phase(control_plane, namespace, name)} & {"Succeeded", "Failed"}, timeout=40
    )
    log = node.log_of(namespace, name, "main")
    assert ended == {"Succeeded"}, log
    return log


class TestPods:
    def test_volume_is_in_memory(
        self, control_plane: ControlPlane, node: RealNode, namespace: str, busybox: str
    ) -> None:
        """A container reads a secret's files, which are on no disk; so does this test."""
        api, base = control_plane.api, f"/api/v1/namespaces/{namespace}"
        api.post(f"{base}/secrets", {"metadata": {"name": "s"}, "stringData": {"a": "text"}})
        body = pod("reader", volumes=[{"name": "files", "secret": {"secretName": "s"}}])
        script = "grep /volumes/files /proc/mounts; cat /volumes/files/a; echo; sleep 600"
        created = run(control_plane, namespace, container(body, busybox, script))
        until(lambda: "text" in node.log_of(namespace, "reader", "main"), timeout=40)
        assert node.log_of(namespace, "reader", "main").startswith("tmpfs /volumes/files tmpfs ro")
        file = node.volume_of(created["metadata"]["uid"], "files", kind="secret") / "a"
        assert file.read_text() == "text"

    def test_python_with_this_project(
        self, control_plane: ControlPlane, node: RealNode, namespace: str, python: str
    ) -> None:
        """The project runs in an image made here, without rights and without a registry."""
        code = "import os, kubetls_sdk.server.uvicorn; print(os.getuid(), kubetls_sdk.__version__)"
        run(control_plane, namespace, container(pod("python"), python, "-c", code))
        printed = output(control_plane, node, namespace, "python")
        assert printed == f"65532 {kubetls_sdk.__version__}"

    def test_api_server_is_where_pods_expect_it(
        self, control_plane: ControlPlane, node: RealNode, namespace: str, python: str
    ) -> None:
        """A pod reaches the API server, and trusts it, with nothing but its own account."""
        code = """
import os, ssl, urllib.request
account = "/var/run/secrets/kubernetes.io/serviceaccount"
context = ssl.create_default_context(cafile=f"{account}/ca.crt")
url = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}/version"
request = urllib.request.Request(url)
request.add_header("Authorization", f"Bearer {open(f'{account}/token').read()}")
print(urllib.request.urlopen(request, context=context, timeout=20).status)
"""
        run(control_plane, namespace, container(pod("client"), python, "-c", code))
        assert output(control_plane, node, namespace, "client") == "200"

    def test_pods_reach_each_other(
        self, control_plane: ControlPlane, node: RealNode, namespace: str, busybox: str
    ) -> None:
        """A pod connects to another one's address."""
        server = container(pod("server"), busybox, "echo hello | nc -l -p 8000; sleep 600")
        run(control_plane, namespace, server)
        path = f"/api/v1/namespaces/{namespace}/pods/server"
        address = until(lambda: control_plane.api.get(path)["status"].get("podIP"), timeout=40)
        script = f"until nc {address} 8000 </dev/null; do sleep 0.1; done"
        run(control_plane, namespace, container(pod("client"), busybox, script))
        assert output(control_plane, node, namespace, "client") == "hello"

    def test_command_in_a_container(
        self, control_plane: ControlPlane, node: RealNode, namespace: str, busybox: str
    ) -> None:
        """A test can run a command inside of a running container."""
        run(control_plane, namespace, container(pod("idle"), busybox, "sleep 600"))
        until(lambda: phase(control_plane, namespace, "idle") == "Running", timeout=40)
        path = f"/api/v1/namespaces/{namespace}/pods/idle"
        status = control_plane.api.get(path)["status"]["containerStatuses"][0]
        printed = node.run_in(status["containerID"], ["/bin/cat", "/proc/1/cmdline"])
        assert printed.split("\0") == ["sleep", "600", ""]

    def test_pod_certificate_is_requested(
        self, control_plane: ControlPlane, node: RealNode, namespace: str, busybox: str
    ) -> None:
        """The real kubelet asks for the certificate of a pod, whose container waits for it."""
        body = pod("web", volumes=[certificate_volume(SIGNER)])
        created = run(control_plane, namespace, container(body, busybox, "true"))
        path = f"/apis/certificates.k8s.io/v1/namespaces/{namespace}/podcertificaterequests"
        spec = until(lambda: control_plane.api.get(path)["items"], timeout=30)[0]["spec"]
        assert (spec["nodeName"], spec["podUID"]) == (node.name, created["metadata"]["uid"])
        assert phase(control_plane, namespace, "web") == "Pending"


class TestRestart:
    def test_of_the_kubelet(
        self, control_plane: ControlPlane, node: RealNode, namespace: str, busybox: str
    ) -> None:
        """The kubelet is replaced under a running pod, and answers for new ones."""
        first = started(control_plane, namespace, busybox, node.name)
        node.restart_kubelet()
        run(control_plane, namespace, container(pod("next"), busybox, "echo done"))
        assert output(control_plane, node, namespace, "next") == "done"
        assert container_status(control_plane, namespace) == first

    def test_of_a_container(
        self, control_plane: ControlPlane, node: RealNode, namespace: str, busybox: str
    ) -> None:
        """A killed container is started again."""
        first = started(control_plane, namespace, busybox, node.name)
        node.kill(first["containerID"])
        until(lambda: is_restarted(control_plane, namespace), timeout=60)

    def test_of_the_machine(self, control_plane: ControlPlane, namespace: str) -> None:
        """After a reboot the node has its disk, and its pods are started again."""
        with RealNode(control_plane, "real-3") as node:
            node.import_image(control_plane.folder / "nodes" / "real-3" / "pause.tar")
            started(control_plane, namespace, "kubetls.example/pause:1", node.name, command=[])
            node.reboot()
            until(lambda: is_restarted(control_plane, namespace), timeout=90)


def started(
    control_plane: ControlPlane,
    namespace: str,
    image: str,
    node: str,
    command: Sequence[str] = ("sleep 600",),
) -> dict[str, Any]:
    """Create the pod `idle`, and return its container's status once it runs."""
    body = container(pod("idle"), image, *command)
    body["spec"] |= {"nodeName": node, "terminationGracePeriodSeconds": 0}
    control_plane.api.post(f"/api/v1/namespaces/{namespace}/pods", body)
    until(lambda: phase(control_plane, namespace, "idle") == "Running", timeout=60)
    return container_status(control_plane, namespace)


def container_status(control_plane: ControlPlane, namespace: str) -> dict[str, Any]:
    found = control_plane.api.get(f"/api/v1/namespaces/{namespace}/pods/idle")
    return found["status"]["containerStatuses"][0]


def is_restarted(control_plane: ControlPlane, namespace: str) -> bool:
    status = container_status(control_plane, namespace)
    return status["restartCount"] > 0 and "running" in status["state"]


class TestEnd:
    def test_nothing_stays(self, control_plane: ControlPlane, busybox: str, namespace: str) -> None:
        """After a node has ended there is no process, mount, interface or control group of it."""
        before = state()
        with RealNode(control_plane, "real-2") as node:
            image = control_plane.folder / "nodes" / "real-2" / "pause.tar"
            node.import_image(image)
            body = container(pod("idle"), "kubetls.example/pause:1")
            body["spec"]["nodeName"] = node.name
            control_plane.api.post(f"/api/v1/namespaces/{namespace}/pods", body)
            until(lambda: phase(control_plane, namespace, "idle") == "Running", timeout=40)
            during = state()
            assert during["processes"] - before["processes"]
            assert during["groups"] - before["groups"]
        until(lambda: not state()["processes"] - before["processes"])
        after = state()
        assert [what for what in before if after[what] - before[what]] == []

    @pytest.mark.parametrize(
        ("number", "left"),
        [
            pytest.param(signal.SIGTERM, [], id="ended"),
            pytest.param(signal.SIGKILL, ["groups"], id="killed"),
        ],
    )
    def test_nothing_stays_of_an_ended_process(
        self, number: signal.Signals, left: list[str], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """Nor when the process that started it is ended; killed, it leaves empty control groups."""
        before, folder = state(), tmp_path_factory.mktemp("n")
        command = [sys.executable, "-m", "tests.node.node_program", str(folder)]
        program = subprocess.Popen(command, cwd=binaries.ROOT, stdout=subprocess.PIPE)
        with program:
            assert program.stdout.readline() == b"running\n"
            assert state()["processes"] - before["processes"]
            program.send_signal(number)
        until(lambda: not state()["processes"] - before["processes"])
        after = state()
        groups = after["groups"] - before["groups"]
        assert [what for what in before if after[what] - before[what]] == left
        remove_groups({Path(group).name for group in groups})
        assert not state()["groups"] & groups


def state() -> dict[str, set[str]]:
    """What a node could leave on this machine."""
    names = ("containerd", "containerd-shim", "kubelet", "unshare")
    return {
        "processes": {p for p in os.listdir("/proc") if p.isdigit() and name_of(p) in names},
        "mounts": set(Path("/proc/self/mounts").read_text().splitlines()),
        "interfaces": {each.name for each in Path("/sys/class/net").iterdir()},
        "groups": {str(each) for each in Path("/sys/fs/cgroup").rglob("k8s.io/*") if each.is_dir()},
        "routing": {Path("/proc/sys/net/ipv4/ip_forward").read_text()},
    }


def name_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
