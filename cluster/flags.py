# SPDX-License-Identifier: Apache-2.0
"""Command lines of the control plane's programs: pure functions of paths, ports and options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cluster.authority import Files

ETCD, API_SERVER = "etcd", "kube-apiserver"
CONTROLLER_MANAGER, SCHEDULER = "kube-controller-manager", "kube-scheduler"


SERVICE_NETWORK = "10.0.0.0/24"
SERVICE_ADDRESS = "10.0.0.1"  # The first of the range: the Service `kubernetes`.


class Ports(NamedTuple):
    """Ports of one cluster on the loopback address."""

    etcd: int
    etcd_peer: int
    api: int


@dataclass(frozen=True, slots=True)
class Credentials:
    """Certificate files of the programs."""

    authority: Files
    etcd_authority: Path
    etcd: Files
    api: Files
    kubelet_client: Files
    service_account: Files


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a cluster may have otherwise than by default.

    Args:
        feature_gates: Kubernetes' feature gates, for all of its programs.
        runtime_config: APIs to serve or not, for example
            `{"certificates.k8s.io/v1beta1": True}`.
        authorization: The API server's authorization modes.
        qps: Requests a second that the controller manager and the scheduler may send each.
        more: Further flags by program, for example `{"kube-apiserver": ["--v=4"]}`.
    """

    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    runtime_config: Mapping[str, bool] = field(default_factory=dict)
    authorization: tuple[str, ...] = ("Node", "RBAC")
    qps: int = 300
    more: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def flags(self, program: str) -> list[str]:
        """The flags that these options mean for a program."""
        flags = []
        if self.feature_gates and program != ETCD:
            flags.append(f"--feature-gates={switches(self.feature_gates)}")
        if program == API_SERVER:
            flags.append(f"--authorization-mode={','.join(self.authorization)}")
        if self.runtime_config and program == API_SERVER:
            flags.append(f"--runtime-config={switches(self.runtime_config)}")
        if program in {CONTROLLER_MANAGER, SCHEDULER}:
            flags += [f"--kube-api-qps={self.qps}", f"--kube-api-burst={2 * self.qps}"]
        return [*flags, *self.more.get(program, ())]


def etcd(folder: Path, ports: Ports, credentials: Credentials) -> list[str]:
    """The flags of etcd: mutual TLS, so that no other program uses ours by mistake."""
    client, peer = (f"https://127.0.0.1:{port}" for port in (ports.etcd, ports.etcd_peer))
    return [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        *_etcd_tls("", credentials),
        *_etcd_tls("peer-", credentials),
        "--unsafe-no-fsync",
    ]


def _etcd_tls(prefix: str, credentials: Credentials) -> list[str]:
    return [
        f"--{prefix}cert-file={credentials.etcd.certificate}",
        f"--{prefix}key-file={credentials.etcd.private_key}",
        f"--{prefix}trusted-ca-file={credentials.etcd_authority}",
        f"--{prefix}client-cert-auth",
    ]


def api_server(folder: Path, ports: Ports, credentials: Credentials) -> list[str]:
    """The flags of the API server."""
    return [
        f"--etcd-servers=https://127.0.0.1:{ports.etcd}",
        f"--etcd-cafile={credentials.etcd_authority}",
        f"--etcd-certfile={credentials.etcd.certificate}",
        f"--etcd-keyfile={credentials.etcd.private_key}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        f"--secure-port={ports.api}",
        f"--tls-cert-file={credentials.api.certificate}",
        f"--tls-private-key-file={credentials.api.private_key}",
        f"--client-ca-file={credentials.authority.certificate}",
        f"--kubelet-client-certificate={credentials.kubelet_client.certificate}",
        f"--kubelet-client-key={credentials.kubelet_client.private_key}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--cert-dir={folder}",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        "--allow-privileged=true",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={credentials.service_account.certificate}",
        f"--service-account-signing-key-file={credentials.service_account.private_key}",
    ]


def controller_manager(kubeconfig: Path, credentials: Credentials) -> list[str]:
    """The flags of the controller manager; it listens on no port."""
    return [
        f"--kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--secure-port=0",
        "--use-service-account-credentials=true",
        f"--root-ca-file={credentials.authority.certificate}",
        f"--service-account-private-key-file={credentials.service_account.private_key}",
        f"--cluster-signing-cert-file={credentials.authority.certificate}",
        f"--cluster-signing-key-file={credentials.authority.private_key}",
    ]


def scheduler(kubeconfig: Path) -> list[str]:
    """The flags of the scheduler; it listens on no port."""
    return [f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0"]


def switches(choices: Mapping[str, bool]) -> str:
    """Choices as the programs take them: `A=true,B=false`."""
    return ",".join(f"{name}={str(on).lower()}" for name, on in choices.items())


_OFF = {"PodCertificateRequest": False}
_TRUST_BUNDLES = ("ClusterTrustBundle", "ClusterTrustBundleProjection")
_EMULATING = ("--emulated-version=1.36",)

# A cluster before pod certificates: the API server drops their volume source from pods.
WITHOUT_POD_CERTIFICATES = Options(feature_gates=_OFF)
# The same, and without ClusterTrustBundles.
WITHOUT_TRUST_BUNDLES = Options(feature_gates=_OFF | dict.fromkeys(_TRUST_BUNDLES, False))
# Both APIs as v1 and as v1beta1, which nodes of 1.35 and 1.36 use.
WITH_BETA = Options(runtime_config={"certificates.k8s.io/v1beta1": True})
# Version 1.36 with both APIs as v1beta1 only; nodes of today find nothing in it. The authorizer of
# nodes wants v1, so that nodes need a ClusterRoleBinding.
ONLY_BETA = Options(
    feature_gates=dict.fromkeys(("PodCertificateRequest", *_TRUST_BUNDLES), True),
    runtime_config={"certificates.k8s.io/v1beta1": True},
    authorization=("RBAC",),
    more=dict.fromkeys((API_SERVER, CONTROLLER_MANAGER, SCHEDULER), _EMULATING),
)
