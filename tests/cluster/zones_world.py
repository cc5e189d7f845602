# SPDX-License-Identifier: Apache-2.0
"""A cluster with three zones of trust, each for a namespace, and workloads that call each other.

Signer and secret issuer are processes with the chart's rights; the injector answers the real API
server from a thread; servers are `kubetls serve`, started from what the kubelet wrote.
"""

from __future__ import annotations

import base64
import socket
import ssl
import sys
from contextlib import ExitStack, contextmanager

import yaml

from cluster import ApiStatusError, ControlPlane, HollowNode
from cluster.ports import free_ports
from cluster.process import Process
from kubetls_sdk.client.httpx import Client
from kubetls_sdk.volume_source import VolumeSource
from tests.cluster.ca_operator import Operator
from tests.cluster.chart import SYSTEM, rendered
from tests.cluster.pods import pod
from tests.cluster.signing_world import _KINDS, CERTIFICATES, ROOT, SigningWorld
from tests.integration.injecting import Folder, running
from tests.waiting import until
from webhook.names import PREFIX

ZONES = {"shop": "default", "payments": "pci", "lab": "lab"}
"""Namespaces and their zones."""
DOMAINS = {"shop": "example.org", "payments": "pci.example", "lab": "lab.example"}
BUNDLES = f"{CERTIFICATES}/clustertrustbundles"
SIGNERS = {"shop": "workload", "payments": "pci", "lab": "lab"}
PLATFORM = {
    "version": 1,
    "zones": [
        {"name": "default", "trustDomain": "example.org"},
        {"name": "pci", "trustDomain": "pci.example", "propagation": "5s"},
        {"name": "lab", "trustDomain": "lab.example"},
    ],
    "namespaces": [
        {"names": ["payments"], "zones": ["pci"], "modes": ["pod-certificate", "secret"]},
        {"names": ["lab"], "zones": ["lab"]},
        {"names": ["*"]},
    ],
}
PARTNERS = [
    {"name": "pci", "zone": "pci", "namespaces": ["shop"]},
    {"name": "main", "zone": "default", "namespaces": ["payments"]},
]
_MUTATING = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"


class ZonesWorld(SigningWorld):
    """The cluster.

    Attributes:
        injector_files: The injector's mounted files.
    """

    def __init__(self, control_plane, nodes, injector_files):
        super().__init__(control_plane, nodes)
        self.injector_files = injector_files
        self.injector_files.write_certificate()
        self.configure(PLATFORM)

    def install(self):
        """Create namespaces, accounts, rights and policies."""
        for name in (SYSTEM, *ZONES):
            self.api.post("/api/v1/namespaces", {"metadata": {"name": name}})
        platform = {key: value for key, value in PLATFORM.items() if key != "version"}
        values = {"platform": platform, "secretIssuer": {"enabled": True}}
        objects = [each for each in rendered(values) if each["kind"] in _KINDS]
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))
        self.allow_secrets("payments")
        for name in ZONES:
            account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
            until(lambda account=account: self.api.exists(account), timeout=30)

    def configure(self, platform):
        """Change the configuration of all parts at once, as mounted ConfigMaps do."""
        text = yaml.safe_dump(platform)
        new = self.config.with_suffix(".new")
        new.write_text(text)
        new.rename(self.config)
        self.injector_files.write_config(text)

    def register(self, port):
        """Let the API server ask the injector about pods of the three namespaces."""
        authority = self.injector_files.authority.cert_pem.bytes()
        names = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [*ZONES]}
        pods = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
        webhook = {
            "name": "inject.kubetls.example",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "timeoutSeconds": 10,
            "clientConfig": {
                "url": f"https://127.0.0.1:{port}/mutate",
                "caBundle": base64.b64encode(authority).decode(),
            },
            "rules": [{**pods, "operations": ["CREATE"]}],
            "namespaceSelector": {"matchExpressions": [names]},
        }
        self.api.post(_MUTATING, {"metadata": {"name": "kubetls-test"}, "webhooks": [webhook]})
        until(lambda: self._is_injected("shop"), timeout=30)

    def create(self, namespace, name, **annotations):
        """Create a pod that the injector equips; returns it and the folder of its volume."""
        made = self.create_pod(namespace, _body(name, annotations))
        kind = "secret" if annotations.get("mode") == "secret" else "projected"
        return made, self.files(made, kind=kind, timeout=60)

    def may_create(self, namespace, **annotations):
        """The injector's refusal of such a pod; empty when it may be created."""
        path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
        try:
            self.api.post(path, _body("trial", annotations))
        except ApiStatusError as err:
            return str(err)
        return ""

    def delete(self, made):
        """Delete a pod at once."""
        self.api.delete(f"{self.path(made)}?gracePeriodSeconds=0")

    def bundle(self, namespace):
        """The published trust bundle of a namespace's zone, as the API server has it."""
        signer = f"{PREFIX}:{SIGNERS[namespace]}"
        return self.api.get(f"{BUNDLES}/{signer}:{DOMAINS[namespace]}")

    def bundle_names(self):
        """The names of all published bundles."""
        return sorted(each["metadata"]["name"] for each in self.api.get(BUNDLES)["items"])

    def operator(self, zone):
        """Who gives orders about a zone's authorities."""
        return Operator(self.control_plane.kubeconfig, self.config, zone)

    def _is_injected(self, namespace):
        path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
        volumes = self.api.post(path, _body("trial", {}))["spec"]["volumes"]
        return "kubetls" in [each["name"] for each in volumes]


@contextmanager
def zones_world(folder):
    """Start everything; yields the world with all zones' bundles published."""
    with (
        ControlPlane(folder / "cluster") as control_plane,
        HollowNode(control_plane, "node-1") as node,
        ExitStack() as stack,
    ):
        files = Folder(folder / "injector")
        world = ZonesWorld(control_plane, {node.name: node}, files)
        world.install()
        injector = stack.enter_context(running(files.settings()))
        injector.wait_ready()
        world.register(injector.injector.port)
        stack.enter_context(world.replica())
        stack.enter_context(world.replica("secrets", "issuer-1"))
        until(lambda: len(world.bundle_names()) == len(ZONES), timeout=90)
        yield world


@contextmanager
def serving(folder, log, policy=None):
    """`kubetls serve` with the files of a pod; yields its URL."""
    (port,) = free_ports(1)
    rules = ["--no-policy"] if policy is None else ["--policy", str(policy)]
    command = [sys.executable, "-m", "kubetls_sdk", "serve", "tests.cluster.echo:app", *rules]
    server = Process(
        log.stem,
        [*command, "--port", str(port), "--volume", str(folder)],
        log=log,
        environment={"PYTHONPATH": str(ROOT)},
    )
    server.start()
    try:
        until(lambda: _is_listening(port), timeout=30)
        yield f"https://127.0.0.1:{port}/"
    finally:
        server.end()


def called(folder, url, namespace):
    """Call a server of a namespace with the files of a pod: its status and what it says."""
    expected = f"spiffe://{DOMAINS[namespace]}/ns/{namespace}/sa/default"
    with VolumeSource(folder) as source, Client(server=expected, source=source) as client:
        answer = client.get(url)
    return answer.status_code, answer.text


def called_blindly(folder, url):
    """Call without looking at the server's certificate, as an attacker would: what came back.

    Nothing, where the server refused the handshake: with an alert, or by ending the connection.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(folder / "credential-bundle.pem")
    place = ("127.0.0.1", int(url.rpartition(":")[2].strip("/")))
    try:
        with (
            socket.create_connection(place, timeout=10) as plain,
            context.wrap_socket(plain) as connection,
        ):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return connection.recv(4096)
    except (ssl.SSLError, ConnectionError):
        return b""


def write_policy(path, **caller):
    """A policy that lets one workload in."""
    rule = {"name": "callers", "from": caller, "to": {"methods": "GET", "paths": "/"}}
    document = {"version": 1, "policies": [{"name": "echo", "allow": [rule]}]}
    path.write_text(yaml.safe_dump(document))
    return path


def _is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _body(name, annotations):
    body = pod(name)
    body["metadata"]["annotations"] = {
        f"{PREFIX}/{key.replace('_', '-')}": value for key, value in annotations.items()
    }
    return body
