# SPDX-License-Identifier: Apache-2.0
"""A cluster with the control plane installed, and a partner with a bundle endpoint on loopback.

Nothing is written behind the control plane's back: the configuration is its ConfigMap, the bundles
are the leader's, the files are the kubelet's.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from cluster import ApiStatusError, kubectl
from cluster.installation import Installation
from cluster.ports import free_ports
from cluster.process import Process
from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.exceptions import BundleError
from kubetls_sdk.testing import DevelopmentCA, KubeletVolume
from tests.cluster.chart import SYSTEM
from tests.waiting import until

ROOT = Path(__file__).parents[2]
PREFIX = "kubetls.gauntletwizard.net"
BUNDLES = "/apis/certificates.k8s.io/v1/clustertrustbundles"
PARTNER_BUNDLE = f"{BUNDLES}/{PREFIX}:partner:acme"
SERVER = "/ns/spire/sa/bundles"
FILE = "partner.example.trust-bundle.pem"
PLATFORM = """\
version: 1
zones:
  - {name: default, trustDomain: example.org}
namespaces:
  - {names: [legacy], modes: [secret]}
  - names: [shop, closed]
"""
KUBELET_SECONDS = 150
"""A kubelet looks at a pod's volumes about once a minute, and later on a busy machine."""


class PartnerEndpoint:
    """The partner's own `kubetls bundle serve`, as a process with a volume of its own.

    Attributes:
        ca: The partner's.
        process: That serves its bundle.
    """

    def __init__(self, folder: Path) -> None:
        self.ca = DevelopmentCA("partner.example")
        self._volume = KubeletVolume(folder / "partner-endpoint")
        self._svid = self.ca.issue(SERVER)
        (self._port,) = free_ports(1)
        self.first = self.ca.bundle
        self.publish()
        self.process = Process(
            "partner-endpoint",
            [
                *(sys.executable, "-m", "kubetls_sdk", "bundle", "serve"),
                *("--profile", "https_spiffe", "--host", "127.0.0.1", "--port", str(self._port)),
                *("--refresh-hint", "1", "--volume", str(self._volume.directory)),
            ],
            log=folder / "partner-endpoint.log",
            environment={"PYTHONPATH": str(ROOT)},
        )

    def publish(self, *, renewed: bool = False) -> None:
        """Write the partner's bundle into the endpoint's volume, with a new SVID or the last."""
        if renewed:
            self._svid = self.ca.issue(SERVER)
        self._volume.write_svid(self._svid, [self.ca.bundle])

    def start(self) -> None:
        self.process.start()
        until(lambda: is_listening(self._port), timeout=30)

    def declared(self, **more: str) -> str:
        """The partner in the platform's configuration, with more fields of its entry."""
        endpoint = {
            "url": f"https://127.0.0.1:{self._port}/",
            "profile": "https_spiffe",
            "spiffeId": str(self.ca.spiffe_id(SERVER)),
            "bootstrap": self.first.to_pem().decode(),
        }
        entry = {
            "name": "acme",
            "trustDomain": "partner.example",
            "namespaces": ["shop", "legacy"],
            "endpoint": endpoint,
            "refresh": {"minimum": "1s", "maximum": "2s"},
            **more,
        }
        return PLATFORM + yaml.safe_dump({"partners": [entry]})


class PartnerCluster:
    """The cluster.

    Attributes:
        endpoint: The partner's.
    """

    def __init__(self, control_plane, nodes, installation, endpoint) -> None:
        self.control_plane = control_plane
        self.api = control_plane.api
        self.installation = installation
        self.endpoint = endpoint
        self._nodes = nodes
        self._stack = ExitStack()

    @property
    def published(self) -> TrustBundle:
        """What volumes of pods get that ask for the partner."""
        empty = TrustBundle(self.endpoint.ca.trust_domain, ())
        if not self.api.exists(PARTNER_BUNDLE):
            return empty
        text = self.api.get(PARTNER_BUNDLE)["spec"]["trustBundle"]
        return TrustBundle.from_pem(empty.trust_domain, text.encode())

    @property
    def annotations(self) -> dict[str, str]:
        """What is remembered of the partner, without our prefix."""
        found = self.api.get(PARTNER_BUNDLE)["metadata"].get("annotations") or {}
        return {name.removeprefix(f"{PREFIX}/"): text for name, text in found.items()}

    def kubectl(self, *arguments: str) -> str:
        return kubectl.run(self.control_plane.kubeconfig, *arguments)

    def touch(self, namespace: str) -> None:
        """Touch all pods of a namespace, so that their kubelets look at the volumes at once."""
        self.kubectl(
            *("annotate", "pods", "--all", "--overwrite", f"--namespace={namespace}"),
            f"example.org/touched={os.urandom(4).hex()}",
        )

    def declare(self) -> None:
        """Declare the partner, and wait until all parts know it."""
        if self.installation.platform == self.endpoint.declared():
            return
        self.installation.configure(self.endpoint.declared())
        self.touch(SYSTEM)
        until(lambda: self.published == self.endpoint.ca.bundle, timeout=90)
        names = (f"probe-{number}" for number in range(1000))
        until(lambda: self.try_to_create("shop", next(names)), timeout=90, interval=0.5)

    def create(self, namespace: str, name: str, **spec):
        """Create a pod that asks for the partner."""
        container = {"name": "main", "image": "none.example/main"}
        annotations = {f"{PREFIX}/partners": "acme"}
        body = {
            "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
            "spec": {"containers": [container], **spec},
        }
        return self.api.post(f"/api/v1/namespaces/{namespace}/pods", body)

    def try_to_create(self, namespace: str, name: str):
        try:
            return self.create(namespace, name)
        except ApiStatusError:
            return None

    def folder(self, created, *, kind: str = "projected") -> Path:
        """Where the kubelet writes a pod's volume, once it has."""
        metadata = created["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        node = until(lambda: self.api.get(path)["spec"].get("nodeName"), timeout=30)
        found = self._nodes[node].volume_of(metadata["uid"], "kubetls", kind=kind)
        until((found / "..data").exists, timeout=90)
        return found

    def run(self, name: str, *arguments: str) -> Process:
        """Run a program of ours as a process, until the end of the cluster."""
        process = Process(
            name,
            [sys.executable, "-m", "kubetls_sdk", *arguments],
            log=self.control_plane.folder / f"{name}.log",
            environment={"PYTHONPATH": str(ROOT)},
        )
        process.start()
        self._stack.callback(process.end)
        return process

    def close(self) -> None:
        self._stack.close()


@contextmanager
def partner_cluster(control_plane, nodes):
    """Install the control plane, and start the partner's endpoint."""
    for name in ("shop", "closed"):
        control_plane.api.post("/api/v1/namespaces", {"metadata": {"name": name}})
    endpoint = PartnerEndpoint(control_plane.folder)
    installation = Installation(
        control_plane, nodes, platform=PLATFORM, secret_namespaces=("legacy",), replicas=1
    )
    with installation, ExitStack() as stack:
        endpoint.start()
        stack.callback(endpoint.process.end)
        cluster = PartnerCluster(control_plane, nodes, installation, endpoint)
        stack.callback(cluster.close)
        for name in ("shop", "legacy"):
            account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
            until(lambda path=account: control_plane.api.exists(path), timeout=30)
        yield cluster


def bundle_in(folder: Path, domain) -> TrustBundle | None:
    """The bundle in a file of a volume, empty without one; None while it is being written."""
    try:
        return TrustBundle.from_pem(domain, (folder / f"{domain}.trust-bundle.pem").read_bytes())
    except FileNotFoundError:
        return TrustBundle(domain, ())
    except (OSError, BundleError):
        return None


def is_listening(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
