# SPDX-License-Identifier: Apache-2.0
"""A cluster with our accounts, rights and policies from the manifests, and replicas of the
signer and the secret issuer as processes of their own that can be killed.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import yaml

from cluster import ControlPlane, HollowNode, binaries
from cluster.process import Process
from kubetls_sdk.spiffe_id import TrustDomain
from tests.cluster.chart import MANIFESTS, SYSTEM, rendered
from tests.cluster.pods import pod
from tests.waiting import until
from webhook.choice import INJECTED, SECRET
from webhook.names import TRUST_DOMAIN_LABEL, bundle_file

ROOT = Path(__file__).parent.parent.parent
CERTIFICATES = "/apis/certificates.k8s.io/v1"
SIGNER = "kubetls.gauntletwizard.net/workload"
OTHER_SIGNER = "kubetls.gauntletwizard.net/other"
PLATFORM = """\
version: 1
zones:
  - {name: default, trustDomain: example.org}
  - {name: other, trustDomain: other.example}
namespaces:
  - {names: ["foreign"], zones: [other]}
  - {names: ["*"], zones: [default], modes: [pod-certificate, secret]}
"""
_KINDS = {
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}


class SigningWorld:
    """The cluster, with two nodes.

    Args:
        control_plane: A fresh one.
        nodes: Its nodes, by name.
    """

    def __init__(self, control_plane: ControlPlane, nodes: dict[str, HollowNode]) -> None:
        self.control_plane = control_plane
        self.api = control_plane.api
        self.nodes = nodes
        self.config = control_plane.folder / "platform.yaml"
        self.config.write_text(PLATFORM)
        self.processes = {}

    def install(self) -> None:
        """Create namespace, accounts, rights and policies; pools and bundles are the leader's."""
        self.api.post("/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(_objects()))

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator."""
        return subprocess.run(
            [
                binaries.find("kubectl"),
                f"--kubeconfig={self.control_plane.kubeconfig}",
                *arguments,
            ],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=50,
            check=True,
        ).stdout

    @contextmanager
    def replica(self, part: str = "sign", identity: str = "signer-1", *, status_port: int = 0):
        """Run a replica as its service account; yields its process."""
        account = {"sign": "kubetls-signer", "secrets": "kubetls-secret-issuer"}[part]
        kubeconfig = self.control_plane.kubeconfig_of_service_account(SYSTEM, account)
        process = Process(
            identity,
            [
                *(sys.executable, "-m", "webhook", part, "--config", str(self.config)),
                *("--identity", identity, "--host", "127.0.0.1"),
                *("--status-port", str(status_port)),
                *(["--no-serving-certificate"] if part == "sign" else []),
            ],
            log=self.control_plane.folder / f"{identity}.log",
            environment={"PYTHONPATH": str(ROOT), "KUBECONFIG": str(kubeconfig)},
        )
        process.start()
        try:
            yield process
        finally:
            process.end()

    def allow_secrets(self, namespace: str) -> None:
        """Let the secret issuer write Secrets in a namespace, as the platform does."""
        example = (MANIFESTS / "kustomize/example/namespace-with-secrets.yaml").read_text()
        document = yaml.safe_load(example)
        document["metadata"]["namespace"] = namespace
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(document))

    def node_of(self, pod: dict) -> HollowNode:
        """The node of a pod, once it is scheduled."""
        path = self.path(pod)
        name = until(lambda: self.api.get(path)["spec"].get("nodeName"), timeout=30)
        return self.nodes[name]

    def path(self, pod: dict) -> str:
        """The path of a pod at the API server."""
        metadata = pod["metadata"]
        return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"

    def create_pod(self, namespace: str, body: dict) -> dict:
        """Create a pod."""
        return self.api.post(f"/api/v1/namespaces/{namespace}/pods", body)

    def create_service(self, namespace: str, name: str, app: str) -> None:
        """Create a Service that selects an app."""
        body = {
            "metadata": {"name": name},
            "spec": {"selector": {"app": app}, "ports": [{"port": 443}]},
        }
        self.api.post(f"/api/v1/namespaces/{namespace}/services", body)

    def files(self, pod: dict, *, kind: str = "projected", timeout: float = 40) -> Path:
        """The folder of a pod's volume, once the kubelet has written it."""
        folder = self.node_of(pod).volume_of(pod["metadata"]["uid"], "kubetls", kind=kind)
        until((folder / "..data").exists, timeout=timeout)
        return folder

    def requests(self, namespace: str) -> list[dict]:
        """The pod certificate requests of a namespace."""
        path = f"{CERTIFICATES}/namespaces/{namespace}/podcertificaterequests"
        return self.api.get(path)["items"]

    def events(self, namespace: str, reason: str) -> list[dict]:
        """The Events of a namespace with a reason."""
        found = self.api.get(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")["items"]
        return [each for each in found if each["reason"] == reason]


def volume(signer: str = SIGNER, domain: str = "example.org") -> dict:
    """The volume that the injector gives a pod."""
    certificate = {
        "signerName": signer,
        "keyType": "ECDSAP256",
        "credentialBundlePath": "credential-bundle.pem",
    }
    bundle = {
        "signerName": signer,
        "labelSelector": {"matchLabels": {TRUST_DOMAIN_LABEL: domain}},
        "path": bundle_file(TrustDomain.parse(domain)),
    }
    sources = [{"podCertificate": certificate}, {"clusterTrustBundle": bundle}]
    return {"name": "kubetls", "projected": {"sources": sources}}


def secret_pod(name: str, secret: str, **metadata: str) -> dict:
    """A pod as the injector leaves it in Secret mode."""
    volume = {"name": "kubetls", "secret": {"secretName": secret}}
    body = pod(name, volumes=[volume])
    body["metadata"]["annotations"] = {INJECTED: "secret", SECRET: secret, **metadata}
    return body


def _objects() -> list[dict]:
    """Accounts, rights and policies of the chart, for both zones."""
    platform = yaml.safe_load(PLATFORM)
    del platform["version"]
    values = {
        "platform": platform,
        "secretIssuer": {"enabled": True},
    }
    return [each for each in rendered(values) if each["kind"] in _KINDS]
