# SPDX-License-Identifier: Apache-2.0
"""What the cluster tests stand on: the API server's APIs, the nodes, and how all of it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cluster import (
    ONLY_BETA,
    WITH_BETA,
    WITHOUT_POD_CERTIFICATES,
    WITHOUT_TRUST_BUNDLES,
    ApiStatusError,
    ControlPlane,
    HollowNode,
    Options,
)
from tests.cluster.pods import certificate_volume, pod
from tests.waiting import until

if TYPE_CHECKING:
    from tests.cluster.conftest import Kubectl

ROOT = Path(__file__).parent.parent.parent
SIGNER = "signer.example/workload"
REQUESTS, BUNDLES = "podcertificaterequests", "clustertrustbundles"
CERTIFICATES = "/apis/certificates.k8s.io/v1"
# Starts a cluster, prints the ids of its processes, and waits for its end.
KEEPER = """
import json, sys
from cluster import ControlPlane, HollowNode
with ControlPlane() as control_plane, HollowNode(control_plane, "node-1") as node:
    processes = [*control_plane.processes, node.process]
    pids = [each.pid for each in processes]
    print(json.dumps({"pids": pids, "folder": str(control_plane.folder)}), flush=True)
    sys.stdin.read()
"""

# The same without the right to give files away, as for everyone who is not root.
UNPRIVILEGED = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_CHOWN = 24, 0
ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_CHOWN, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
POD_OF_A_USER = """
from cluster import ControlPlane, HollowNode
from tests.cluster.pods import pod
from tests.waiting import until
path = "/api/v1/namespaces/default/pods"
with ControlPlane() as control_plane, HollowNode(control_plane, "node-1") as node:
    body = pod("web", securityContext={"runAsUser": 1000, "fsGroup": 1000})
    uid = control_plane.api.post(path, body)["metadata"]["uid"]
    phase = lambda: control_plane.api.get(path + "/web")["status"]["phase"]
    until(lambda: phase() == "Running", timeout=30)
    folder = next(node.volume_of(uid, "any").parent.iterdir())
    print((folder / "token").stat().st_uid)
"""


def served(control_plane: ControlPlane, group: str) -> set[str]:
    return {each["name"] for each in control_plane.api.get(group)["resources"]}


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody waited for yet does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


class TestApis:
    def test_pod_certificates_are_served(self, control_plane: ControlPlane) -> None:
        """The API server has the stable APIs of pod certificates and trust bundles."""
        assert {REQUESTS, BUNDLES} <= served(control_plane, CERTIFICATES)

    def test_mutating_admission_policies_are_served(self, control_plane: ControlPlane) -> None:
        """Injection without a webhook can be tried."""
        assert "mutatingadmissionpolicies" in served(
            control_plane, "/apis/admissionregistration.k8s.io/v1"
        )

    @pytest.mark.parametrize(
        ("options", "version", "names"),
        [
            pytest.param(WITHOUT_POD_CERTIFICATES, "v1", {BUNDLES}, id="no pod certificates"),
            pytest.param(WITHOUT_TRUST_BUNDLES, "v1", set(), id="no trust bundles"),
            pytest.param(WITH_BETA, "v1beta1", {REQUESTS, BUNDLES}, id="v1beta1 too"),
            pytest.param(ONLY_BETA, "v1beta1", {REQUESTS, BUNDLES}, id="v1beta1 only"),
            pytest.param(ONLY_BETA, "v1", set(), id="v1beta1 only, so not v1"),
        ],
    )
    def test_older_clusters(
        self, options: Options, version: str, names: set[str], tmp_path: Path
    ) -> None:
        """A cluster with the APIs of an older one can be started, next to the other."""
        with ControlPlane(tmp_path / "older", options=options) as older:
            found = served(older, f"/apis/certificates.k8s.io/{version}")
        assert found & {REQUESTS, BUNDLES} == names


class TestUsers:
    def test_certificate_of_a_user(self, control_plane: ControlPlane, kubectl: Kubectl) -> None:
        """The API server sees the user and the groups of a kubeconfig."""
        config = control_plane.kubeconfig_for("jane@example.org", ["team-a", "team-b"])
        answer = json.loads(kubectl("auth", "whoami", "-o", "json", kubeconfig=config))
        user = answer["status"]["userInfo"]
        assert user["username"] == "jane@example.org"
        assert {"team-a", "team-b"} <= set(user["groups"])

    def test_token_of_a_service_account(
        self, control_plane: ControlPlane, kubectl: Kubectl, namespace: str
    ) -> None:
        """A service account's kubeconfig is that account."""
        config = control_plane.kubeconfig_of_service_account(namespace, "default")
        answer = json.loads(kubectl("auth", "whoami", "-o", "json", kubeconfig=config))
        user = answer["status"]["userInfo"]
        assert user["username"] == f"system:serviceaccount:{namespace}:default"

    def test_refusals_are_errors(self, control_plane: ControlPlane) -> None:
        """What the API server refuses is an error with its status and reason."""
        with pytest.raises(ApiStatusError) as caught:
            control_plane.api.post("/api/v1/namespaces", {"metadata": {"name": "NOT a name"}})
        assert (caught.value.status, caught.value.reason) == (422, "Invalid")


class TestNodes:
    def test_pod_certificate_is_requested(
        self, control_plane: ControlPlane, nodes: dict[str, HollowNode], namespace: str
    ) -> None:
        """A pod with a certificate volume is scheduled, and its node asks for the certificate."""
        api = control_plane.api
        volume = certificate_volume(SIGNER)
        created = api.post(f"/api/v1/namespaces/{namespace}/pods", pod("web", volumes=[volume]))
        path = f"{CERTIFICATES}/namespaces/{namespace}/podcertificaterequests"
        spec: dict[str, Any] = until(lambda: api.get(path)["items"], timeout=30)[0]["spec"]
        assert spec["nodeName"] in nodes
        assert spec["signerName"] == SIGNER
        assert spec["podUID"] == created["metadata"]["uid"]
        assert not list(nodes[spec["nodeName"]].volume_of(spec["podUID"], "kubetls").glob("*.pem"))

    def test_volume_is_written(
        self, control_plane: ControlPlane, nodes: dict[str, HollowNode], namespace: str
    ) -> None:
        """The files of a volume are found where the node says they are."""
        api, base = control_plane.api, f"/api/v1/namespaces/{namespace}"
        api.post(f"{base}/secrets", {"metadata": {"name": "s"}, "stringData": {"a": "text"}})
        volume = {"name": "files", "secret": {"secretName": "s"}}
        uid = api.post(f"{base}/pods", pod("web", volumes=[volume]))["metadata"]["uid"]
        files = [each.volume_of(uid, "files", kind="secret") / "a" for each in nodes.values()]
        written = until(lambda: [each for each in files if each.exists()], timeout=30)
        assert [each.read_text() for each in written] == ["text"]

    def test_no_rights_are_needed(self) -> None:
        """Volumes of a pod that names a user are written by whoever runs the node."""
        command = [sys.executable, "-c", UNPRIVILEGED, POD_OF_A_USER]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=55)
        assert done.stdout == f"{os.getuid()}\n", done.stderr

    def test_nodes_listen_on_no_port(self, nodes: dict[str, HollowNode]) -> None:
        """A kubelet that anybody may ask for the machine's logs is not part of this."""
        listening = {
            line.split()[9]
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
            if line.split()[3] == "0A"
        }
        sockets = {
            os.readlink(each).removeprefix("socket:[").rstrip("]")
            for node in nodes.values()
            for each in Path(f"/proc/{node.process.pid}/fd").iterdir()
            if each.is_symlink()
        }
        assert sockets & listening == set()


class TestRestart:
    def test_objects_survive(self, tmp_path: Path) -> None:
        """An API server that was killed comes back with all objects."""
        with ControlPlane(tmp_path / "cluster") as control_plane:
            control_plane.api.post("/api/v1/namespaces", {"metadata": {"name": "kept"}})
            control_plane.restart("kube-apiserver")
            control_plane.restart("etcd")
            assert control_plane.api.exists("/api/v1/namespaces/kept")


class TestEnd:
    @pytest.mark.parametrize(
        "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=str
    )
    def test_all_processes_end(self, number: signal.Signals) -> None:
        """However the process that started a cluster ends, nothing of the cluster stays."""
        with subprocess.Popen(
            [sys.executable, "-c", KEEPER],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as keeper:
            assert keeper.stdout is not None
            told = json.loads(keeper.stdout.readline())
            assert all(is_alive(pid) for pid in told["pids"])
            keeper.send_signal(number)
            keeper.communicate(timeout=20)
        until(lambda: not any(is_alive(pid) for pid in told["pids"]))
        assert Path(told["folder"]).exists() is (number == signal.SIGKILL)
        if number == signal.SIGKILL:
            subprocess.run(["rm", "-r", told["folder"]], check=True)
