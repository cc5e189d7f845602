# SPDX-License-Identifier: Apache-2.0
"""A cluster with signer and bundle endpoint, installed by the chart, and what partners need."""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import trustme
import yaml

from cluster import ControlPlane, HollowNode, binaries, kubectl
from cluster.pod_runner import PodRunner
from cluster.service_address import ServiceAddress
from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.federation import Endpoint, Profile
from kubetls_sdk.spiffe_id import SpiffeId, TrustDomain
from kubetls_sdk.testing import DevelopmentCA
from tests.cluster.ca_operator import Operator
from tests.cluster.chart import SYSTEM, one, rendered
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARTNER = DevelopmentCA("partner.example").bundle
OURS = TrustDomain.parse("example.org")
SERVER = SpiffeId.parse(f"spiffe://example.org/ns/{SYSTEM}/sa/kubetls-bundle-endpoint")
WEB, SPIFFE, STATUS = "8443", "8444", "8080"
PATHS = {"example.org": "/bundles/example.org", "pci.example": "/bundles/pci.example"}
_SECRETS = f"/api/v1/namespaces/{SYSTEM}/secrets"
BUNDLES = "/apis/certificates.k8s.io/v1/clustertrustbundles"
SIGNERS = {
    "example.org": "kubetls.gauntletwizard.net:workload",
    "pci.example": "kubetls.gauntletwizard.net:pci",
}
VALUES = {
    "injector": {"kind": "none"},
    "signer": {"replicas": 1},
    "bundleEndpoint": {"enabled": True, "web": {"secretName": "bundle-endpoint-web"}},
    "platform": {
        "zones": [
            {"name": "default", "trustDomain": "example.org"},
            {"name": "pci", "trustDomain": "pci.example"},
        ],
        "namespaces": [{"names": ["*"], "zones": ["default"]}],
        "partners": [
            {
                "name": "acme",
                "trustDomain": "partner.example",
                "bundle": PARTNER.to_pem().decode(),
                "namespaces": ["*"],
            }
        ],
    },
}


class BundleEndpointWorld:
    """The cluster.

    Args:
        control_plane: A fresh one.
        runner: Runs the parts' pods.
        addresses: Where partners reach the Service, by port of the container.
        roots: PEM file of the roots that vouch for the web certificate.

    Attributes:
        operator: Gives orders about the zone `default`.
    """

    def __init__(
        self,
        control_plane: ControlPlane,
        runner: PodRunner,
        addresses: dict[str, ServiceAddress[int]],
        roots: Path,
    ) -> None:
        self.control_plane = control_plane
        self.api = control_plane.api
        self.runner = runner
        self.roots = roots
        self._addresses = addresses
        config = control_plane.folder / "platform.yaml"
        found = one(rendered(VALUES), "ConfigMap", "kubetls-config")
        config.write_text(found["data"]["platform.yaml"])
        self.operator = Operator(control_plane.kubeconfig, config)

    @property
    def replicas(self) -> list[str]:
        """The names of the endpoint's pods."""
        return sorted(name for name in self.runner.pods if "bundle-endpoint" in name)

    def published(self, domain: str = "example.org") -> TrustBundle:
        """What the API server has."""
        text = self.api.get(f"{BUNDLES}/{SIGNERS[domain]}:{domain}")["spec"]["trustBundle"]
        return TrustBundle.from_pem(TrustDomain.parse(domain), text.encode())

    def url(self, profile: Profile, path: str = PATHS["example.org"]) -> str:
        """Where partners ask."""
        port = self._addresses[WEB if profile is Profile.WEB else SPIFFE].port
        return f"https://127.0.0.1:{port}{path}"

    def endpoint(self, profile: Profile, path: str = PATHS["example.org"]) -> Endpoint:
        """What a partner configures."""
        if profile is Profile.WEB:
            return Endpoint(url=self.url(profile, path), profile=profile, ca_file=self.roots)
        return Endpoint(url=self.url(profile, path), profile=profile, spiffe_id=SERVER)

    def answer(self, name: str, path: str, *, method: str = "GET") -> tuple[int, bytes]:
        """What one replica answers over `https_web`."""
        url = f"https://127.0.0.1:{self.runner.pods[name].ports[WEB]}{path}"
        context = ssl.create_default_context(cafile=str(self.roots))
        request = urllib.request.Request(url, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10, context=context) as found:  # noqa: S310
                return found.status, found.read()
        except urllib.error.HTTPError as err:
            with err:
                return err.code, err.read()

    def renew_web_certificate(self) -> None:
        """Replace the Secret, and let the kubelet look at it at once."""
        self.api.put(f"{_SECRETS}/bundle-endpoint-web", _web_secret(self.roots))
        kubectl.run(
            self.control_plane.kubeconfig,
            *("annotate", "pods", "--all", "--overwrite", f"--namespace={SYSTEM}"),
            f"example.org/touched={os.urandom(4).hex()}",
        )

    def is_ready(self, name: str) -> bool:
        """Whether a replica says that it is ready."""
        url = f"http://127.0.0.1:{self.runner.pods[name].ports[STATUS]}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=10) as found:
                return bool(found.status == 200)
        except (OSError, KeyError):
            return False

    def are_ready(self) -> bool:
        """Whether both replicas are."""
        names = self.replicas
        return len(names) == 2 and all(map(self.is_ready, names))


@contextmanager
def bundle_endpoint_world(folder: Path) -> Iterator[BundleEndpointWorld]:
    """Install everything, and wait until it serves."""
    roots = folder / "web-roots.pem"
    with (
        ControlPlane(folder) as control_plane,
        HollowNode(control_plane, "node-1") as node,
        ExitStack() as stack,
    ):
        control_plane.api.post("/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
        control_plane.api.post(_SECRETS, _web_secret(roots))
        text = yaml.safe_dump_all(rendered(VALUES))
        kubectl.run(control_plane.kubeconfig, "apply", "--server-side", "--filename=-", stdin=text)
        runner = stack.enter_context(
            PodRunner(
                control_plane,
                {node.name: node},
                SYSTEM,
                entrypoint=[sys.executable, "-m", "webhook"],
                ports=(WEB, SPIFFE, STATUS),
                environment={"PYTHONPATH": str(binaries.ROOT)},
            )
        )
        labels = {"app.kubernetes.io/component": "bundle-endpoint"}
        addresses = {
            port: stack.enter_context(ServiceAddress(lambda p=port: runner.ports_of(p, **labels)))
            for port in (WEB, SPIFFE)
        }
        world = BundleEndpointWorld(control_plane, runner, addresses, roots)
        until(world.are_ready, timeout=90)
        yield world


def run_alone(control_plane: ControlPlane, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the program as an administrator until it ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "webhook", "bundles", *options],
        env={"PYTHONPATH": str(binaries.ROOT), "KUBECONFIG": str(control_plane.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=50,
    )


def _web_secret(roots: Path) -> dict[str, Any]:
    """A new web certificate, with a root of its own."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(roots))
    issued = authority.issue_cert("127.0.0.1")
    pair = {
        "tls.crt": b"".join(each.bytes() for each in issued.cert_chain_pems),
        "tls.key": issued.private_key_pem.bytes(),
    }
    return {
        "metadata": {"name": "bundle-endpoint-web"},
        "type": "kubernetes.io/tls",
        "data": {name: base64.b64encode(text).decode() for name, text in pair.items()},
    }
