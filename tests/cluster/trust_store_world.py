# SPDX-License-Identifier: Apache-2.0
"""A cluster with injector, signer and secret issuer, and what a container of its pods believes."""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
import sys
from contextlib import ExitStack, contextmanager

from cluster import ControlPlane, HollowNode, container_view
from tests.cluster.ca_operator import Operator
from tests.cluster.pods import pod
from tests.cluster.signing_world import CERTIFICATES, SigningWorld
from tests.integration.injecting import Folder, running
from tests.integration.origin import Origin
from tests.waiting import until

NAMESPACE = "shop"
MUTATING = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
BUNDLE = f"{CERTIFICATES}/clustertrustbundles/kubetls.gauntletwizard.net:workload:example.org"
PLATFORM = """\
version: 1
zones:
  - {name: default, trustDomain: example.org, propagation: 5s}
namespaces:
  - {names: [shop], modes: [pod-certificate, secret]}
"""
_CLIENT = """
import socket, ssl, sys
context = ssl.create_default_context()
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10) as plain:
    with context.wrap_socket(plain, server_hostname=sys.argv[2]):
        pass
"""


class StoreWorld(SigningWorld):
    """The cluster; pods of one namespace are injected."""

    def install(self):
        super().install()
        self.config.write_text(PLATFORM)
        self.operator = Operator(self.control_plane.kubeconfig, self.config)
        self.api.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"
        until(lambda: self.api.exists(account))
        self.allow_secrets(NAMESPACE)

    def published(self):
        """The zone's bundle, in PEM."""
        return self.api.get(BUNDLE)["spec"]["trustBundle"] if self.api.exists(BUNDLE) else ""

    def make(self, name, **annotations):
        """Create a pod with an init container, with annotations of ours, and a Service of it."""
        made = pod(name, initContainers=[{"name": "init", "image": "none.example/init"}])
        made["metadata"]["annotations"] = {
            f"kubetls.gauntletwizard.net/{key.replace('_', '-')}": value
            for key, value in annotations.items()
        }
        self.create_service(NAMESPACE, name, name)
        return self.create_pod(NAMESPACE, made)

    def folder(self, created, volume, kind):
        """Where the kubelet wrote a volume of a pod."""
        folder = self.node_of(created).volume_of(created["metadata"]["uid"], volume, kind=kind)
        until((folder / "..data").exists, timeout=60)
        return folder

    @contextmanager
    def serving(self, created):
        """A server with the certificate of a pod; yields its port."""
        folder = self.folder(created, "kubetls", "projected")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "credential-bundle.pem")
        with Origin.running(context) as origin:
            yield origin.port

    def accepts(self, created, port, name):
        """Whether a program in the pod's container believes a server to have a DNS name."""
        container = created["spec"]["containers"][0]
        node, uid = self.node_of(created), created["metadata"]["uid"]
        paths = container_view.mounted_paths(
            created, container, lambda volume, kind: node.volume_of(uid, volume, kind=kind)
        )
        environment = container_view.environment_of(created, container, paths)
        done = subprocess.run(
            [sys.executable, "-c", _CLIENT, str(port), name],
            env={"PATH": os.defpath, **environment},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0 or "CERTIFICATE_VERIFY_FAILED" in done.stderr, done.stderr
        return done.returncode == 0

    @contextmanager
    def injector(self, folder):
        """Run the injector, and register it for the namespace."""
        files = Folder(folder)
        files.write_config(PLATFORM)
        files.write_certificate()
        with running(files.settings()) as run:
            run.wait_ready()
            port, authority = run.injector.port, files.authority.cert_pem.bytes()
            self.api.post(MUTATING, _registration(port, authority))
            path = f"/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All"
            until(lambda: len(self.api.post(path, pod("try"))["spec"]["volumes"]) > 1, timeout=30)
            yield


@contextmanager
def store_world(folder):
    """All parts, running."""
    with ExitStack() as stack:
        control_plane = stack.enter_context(ControlPlane(folder))
        node = stack.enter_context(HollowNode(control_plane, "node-1"))
        world = StoreWorld(control_plane, {node.name: node})
        world.install()
        stack.enter_context(world.replica())
        stack.enter_context(world.replica("secrets", "issuer-1"))
        stack.enter_context(world.injector(folder / "injector"))
        until(world.published, timeout=90)
        yield world


def _registration(port, authority):
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "scope": "Namespaced"}
    webhook = {
        "name": "inject.kubetls.example",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "timeoutSeconds": 5,
        "clientConfig": {
            "url": f"https://127.0.0.1:{port}/mutate",
            "caBundle": base64.b64encode(authority).decode(),
        },
        "rules": [
            {**pods, "resources": ["pods"], "operations": ["CREATE"]},
            {**pods, "resources": ["pods/ephemeralcontainers"], "operations": ["UPDATE"]},
        ],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
    }
    return {"metadata": {"name": "kubetls-trust-store"}, "webhooks": [webhook]}
