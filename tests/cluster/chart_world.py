# SPDX-License-Identifier: Apache-2.0
"""A cluster with the chart's objects in it, and no process of ours: what the manifests alone do."""

from __future__ import annotations

import base64
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import yaml

from cluster import ControlPlane, binaries
from tests.cluster.account import Account
from tests.cluster.chart import SYSTEM, rendered
from tests.waiting import until
from tests.webhook.signing.world import csr

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

ENABLED, OTHER = "shop", "tools"
SIGNER = "kubetls.gauntletwizard.net/workload"
PREFIX = "kubetls.gauntletwizard.net"
VALUES = {
    "trustDomain": "example.org",
    "secretIssuer": {"enabled": True, "namespaces": [ENABLED], "replicas": 1},
    "csi": {"enabled": True, "namespaces": [ENABLED]},
    **{part: {"replicas": 1} for part in ("injector", "signer")},
}
NAMESPACES = "/api/v1/namespaces"
CERTIFICATES = "/apis/certificates.k8s.io/v1"
SECRET_NAME = f"kubetls-{'0a' * 10}"
SECRET_TYPE = f"{PREFIX}/workload"

# Somebody who may do much, and is not the platform.
_EDITOR = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: editor, namespace: tools}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: editor}
rules:
  - {apiGroups: [""], resources: ["*"], verbs: ["*"]}
  - {apiGroups: [certificates.k8s.io], resources: [podcertificaterequests], verbs: ["*"]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: editor}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: editor}
subjects: [{kind: ServiceAccount, name: editor, namespace: tools}]
"""


class ChartWorld:
    """The cluster; `ENABLED` is enabled for Secrets and pods' own requests, `OTHER` is not.

    Args:
        control_plane: A fresh one.

    Attributes:
        injector: The part's account; so are `signer`, `secret_issuer` and `node`.
        editor: May write everything in the core group and PodCertificateRequests.
    """

    def __init__(self, control_plane: ControlPlane) -> None:
        self.control_plane = control_plane
        self.api = control_plane.api
        for name in (SYSTEM, ENABLED, OTHER):
            self.api.post(NAMESPACES, {"metadata": {"name": name}})
        self.apply([*rendered(VALUES), *yaml.safe_load_all(_EDITOR)])
        self.injector, self.signer, self.secret_issuer, self.node = (
            Account(control_plane, SYSTEM, f"kubetls-{part}")
            for part in ("injector", "signer", "secret-issuer", "node")
        )
        self.editor = Account(control_plane, OTHER, "editor")
        until(self._is_in_force, timeout=30)

    def apply(self, objects: list[Mapping[str, Any]]) -> None:
        """Apply objects as the administrator, without what would ask for processes of ours."""
        asking = {"MutatingWebhookConfiguration", "DaemonSet"}
        kept = [each for each in objects if each["kind"] not in asking]
        subprocess.run(
            [
                *(binaries.find("kubectl"), f"--kubeconfig={self.control_plane.kubeconfig}"),
                *("apply", "--server-side", "-f", "-"),
            ],
            input=yaml.safe_dump_all(kept),
            capture_output=True,
            text=True,
            timeout=50,
            check=True,
        )

    def pod(self, name: str, *, namespace: str = ENABLED) -> str:
        """Create a pod that nobody runs, and return its UID."""
        account = f"{NAMESPACES}/{namespace}/serviceaccounts/default"
        until(lambda: self.api.exists(account), timeout=20)
        body = {
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "main", "image": "none.example/main"}]},
        }
        uid: str = self.api.post(f"{NAMESPACES}/{namespace}/pods", body)["metadata"]["uid"]
        return uid

    def _is_in_force(self) -> bool:
        """Whether the API server has heard of all our policies, and of the editor's rights."""
        labelled = namespace_body("try", inject="true")
        config_map = {"metadata": {"name": "try"}}
        secret = workload_secret("x", type="Opaque")
        where = f"{NAMESPACES}/{SYSTEM}/configmaps?dryRun=All"
        return all(
            [
                "belong to the platform"
                in self.editor.refusal("POST", f"{NAMESPACES}?dryRun=All", labelled),
                "only create" in self.signer.refusal("POST", where, config_map),
                "its own type"
                in self.secret_issuer.refusal("POST", f"{secrets_of(ENABLED)}?dryRun=All", secret),
                "only the node"
                in self.editor.refusal("POST", f"{requests_of(ENABLED)}?dryRun=All", request()),
            ]
        )


@contextmanager
def chart_world(folder: Path) -> Iterator[ChartWorld]:
    """A fresh cluster with the chart."""
    with ControlPlane(folder) as control_plane:
        yield ChartWorld(control_plane)


def secrets_of(namespace: str) -> str:
    """Where the Secrets of a namespace are."""
    return f"{NAMESPACES}/{namespace}/secrets"


def requests_of(namespace: str) -> str:
    """Where the PodCertificateRequests of a namespace are."""
    return f"{CERTIFICATES}/namespaces/{namespace}/podcertificaterequests"


def namespace_body(name: str, **labels: str) -> dict[str, Any]:
    """A namespace with labels of ours."""
    ours = {f"{PREFIX}/{key}": value for key, value in labels.items()}
    return {"metadata": {"name": name, **({"labels": ours} if ours else {})}}


def request(**fields: Any) -> dict[str, Any]:
    """A PodCertificateRequest that somebody wrote by hand."""
    names = ("podName", "podUID", "serviceAccountName", "serviceAccountUID", "nodeName", "nodeUID")
    key = base64.b64encode(csr()).decode()
    spec = {"signerName": SIGNER, **dict.fromkeys(names, "x"), "stubPKCS10Request": key}
    return {"metadata": {"generateName": "req-"}, "spec": {**spec, **fields}}


def workload_secret(owner_uid: str, *, name: str = SECRET_NAME, **fields: Any) -> dict[str, Any]:
    """A Secret as the secret issuer writes it, for a pod `owner`."""
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "owner", "uid": owner_uid}
    content = {"tls.key": base64.b64encode(b"no key").decode()}
    metadata = {"name": name, "ownerReferences": [owner]}
    return {"metadata": metadata, "type": SECRET_TYPE, "data": content, **fields}
