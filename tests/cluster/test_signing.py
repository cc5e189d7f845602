# SPDX-License-Identifier: Apache-2.0
"""The signer against the real API server: requests of real kubelets, and no rights but its own."""

from __future__ import annotations

import base64
import json
import random
import signal
import threading
from http.client import HTTPConnection

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cluster import ApiStatusError, ControlPlane, HollowNode, Options
from cluster.ports import free_ports
from kubetls_sdk.volume_source import VolumeSource
from tests.cluster.pods import pod
from tests.cluster.signing_world import OTHER_SIGNER, SIGNER, SigningWorld, volume
from tests.waiting import until
from tests.webhook.signing.world import csr

BETA = {"certificates.k8s.io/v1beta1": True}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A cluster of this module's own, since signers of others would answer its requests."""
    folder = tmp_path_factory.mktemp("signing")
    with (
        ControlPlane(folder, options=Options(runtime_config=BETA)) as control_plane,
        HollowNode(control_plane, "node-1") as first,
        HollowNode(control_plane, "node-2") as second,
    ):
        world = SigningWorld(control_plane, {first.name: first, second.name: second})
        world.install()
        for name in ("shop", "foreign"):
            control_plane.api.post("/api/v1/namespaces", {"metadata": {"name": name}})
            account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
            until(lambda account=account: control_plane.api.exists(account))
        yield world


@pytest.fixture(scope="module")
def signer(world):
    """One replica."""
    with world.replica() as process:
        yield process


def status(port, path):
    """Status of a probe; 0 without an answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def verdicts(world, namespace, name):
    """Conditions of the requests of a pod."""
    return [
        (each["type"], each["reason"])
        for request in world.requests(namespace)
        if request["spec"]["podName"] == name
        for each in request.get("status", {}).get("conditions", [])
    ]


@pytest.mark.usefixtures("signer")
class TestIssue:
    def test_pod_gets_its_files(self, world):
        """The kubelet writes key, certificate and bundle, and the SDK reads them as one SVID."""
        world.create_service("shop", "front", "web")
        created = world.create_pod("shop", pod("web", volumes=[volume()]))
        with VolumeSource(world.files(created)) as source:
            svid = source.snapshot.svid
        assert str(svid.spiffe_id) == "spiffe://example.org/ns/shop/sa/default"
        leaf = svid.chain[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert "front.shop.svc.cluster.local" in names.get_values_for_type(x509.DNSName)
        assert leaf.subject.rfc4514_string() == "CN=web"

    def test_pod_without_service_is_told(self, world):
        """The owner of a pod without a Service finds an Event at the pod."""
        created = world.create_pod("shop", pod("lonely", volumes=[volume()]))
        world.files(created)
        (event,) = until(lambda: world.events("shop", "NoServiceYet"))
        assert event["regarding"]["uid"] == created["metadata"]["uid"]

    @pytest.mark.parametrize(
        ("namespace", "signer_name", "domain"),
        [("shop", OTHER_SIGNER, "other.example"), ("foreign", SIGNER, "example.org")],
    )
    def test_foreign_zone(self, world, namespace, signer_name, domain):
        """A hand-written volume of a zone that is not the namespace's gets no certificate."""
        name = f"evil-{namespace}"
        created = world.create_pod(namespace, pod(name, volumes=[volume(signer_name, domain)]))
        until(lambda: verdicts(world, namespace, name), timeout=30)
        assert verdicts(world, namespace, name) == [("Denied", "NotAllowedInNamespace")]
        (event,) = until(lambda: world.events(namespace, "CertificateDenied"))
        assert event["regarding"]["name"] == name
        folder = world.node_of(created).volume_of(created["metadata"]["uid"], "kubetls")
        assert not list(folder.glob("*.pem"))

    def test_zone_of_its_own(self, world):
        """A namespace of another zone gets certificates of that zone's trust domain."""
        created = world.create_pod(
            "foreign", pod("web", volumes=[volume(OTHER_SIGNER, "other.example")])
        )
        with VolumeSource(world.files(created)) as source:
            assert source.snapshot.svid.spiffe_id.trust_domain.name == "other.example"

    def test_injected_without_source(self, world):
        """A pod that says it was injected and has no source is told of."""
        body = pod("dropped")
        body["metadata"]["annotations"] = {"kubetls.gauntletwizard.net/injected": "pod-certificate"}
        created = world.create_pod("shop", body)
        (event,) = until(lambda: world.events("shop", "MissingPodCertificate"), timeout=30)
        assert event["regarding"]["uid"] == created["metadata"]["uid"]

    def test_only_nodes_make_requests(self, world):
        """Not even an administrator makes a request that our signer would answer."""
        spec = {
            "signerName": SIGNER,
            **dict.fromkeys(("podName", "podUID", "serviceAccountName", "serviceAccountUID"), "x"),
            **dict.fromkeys(("nodeName", "nodeUID"), "x"),
            "stubPKCS10Request": base64.b64encode(csr()).decode(),
        }
        path = "/apis/certificates.k8s.io/v1/namespaces/shop/podcertificaterequests"
        with pytest.raises(ApiStatusError) as caught:
            world.api.post(path, {"metadata": {"generateName": "req-"}, "spec": spec})
        assert "only the node that runs a pod" in str(caught.value)

    def test_audit_log(self, world, signer):
        """Each certificate stands in the audit log."""
        text = signer.log.read_text()
        lines = [json.loads(line[line.index("{") :]) for line in text.splitlines() if "{" in line]
        issued = [line for line in lines if line["decision"] == "issued"]
        assert {"web", "lonely"} <= {line["pod"] for line in issued}
        assert "PRIVATE KEY" not in text
        assert "BEGIN" not in text


class TestOldNode:
    """A node of 1.35, played by hand: the key of its requests is only seen in v1beta1."""

    @pytest.fixture
    def created(self, world):
        """A pod on such a node."""
        world.api.post("/api/v1/nodes", {"metadata": {"name": "node-old"}})
        body = pod("old", volumes=[volume()])
        yield world.create_pod("shop", body | {"spec": body["spec"] | {"nodeName": "node-old"}})
        world.api.delete("/api/v1/nodes/node-old")

    def ask(self, world, created):
        """Make the request that its kubelet would make."""
        key = ec.generate_private_key(ec.SECP256R1())
        uid = created["metadata"]["uid"]
        proof = key.sign(uid.encode(), ec.ECDSA(hashes.SHA256()))
        node = world.api.get("/api/v1/nodes/node-old")
        account = world.api.get("/api/v1/namespaces/shop/serviceaccounts/default")
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        spec = {
            "signerName": SIGNER,
            "podName": "old",
            "podUID": uid,
            "serviceAccountName": "default",
            "serviceAccountUID": account["metadata"]["uid"],
            "nodeName": "node-old",
            "nodeUID": node["metadata"]["uid"],
            "pkixPublicKey": base64.b64encode(public).decode(),
            "proofOfPossession": base64.b64encode(proof).decode(),
        }
        body = {
            "apiVersion": "certificates.k8s.io/v1beta1",
            "kind": "PodCertificateRequest",
            "metadata": {"name": "req-old", "namespace": "shop"},
            "spec": spec,
        }
        kubeconfig = world.control_plane.kubeconfig_for("system:node:node-old", ["system:nodes"])
        world.kubectl(f"--kubeconfig={kubeconfig}", "create", "-f", "-", stdin=json.dumps(body))
        return key

    def test_gets_its_certificate(self, world, created):
        """A request that v1 shows without a key is read in v1beta1, and answered."""
        key = self.ask(world, created)
        with world.replica(identity="for-old-nodes"):
            until(lambda: verdicts(world, "shop", "old"), timeout=30)
        (request,) = [
            each for each in world.requests("shop") if each["metadata"]["name"] == "req-old"
        ]
        assert not request["spec"].get("stubPKCS10Request")
        assert verdicts(world, "shop", "old") == [("Issued", "Issued")]
        chain = request["status"]["certificateChain"].encode()
        assert x509.load_pem_x509_certificate(chain).public_key() == key.public_key()


class TestEnd:
    def test_leaves_the_group(self, world):
        """A replica that is told to end is not ready any more, and its Lease is gone."""
        (port,) = free_ports(1)
        leases = "/apis/coordination.k8s.io/v1/namespaces/kubetls-system/leases"
        lease = f"{leases}/kubetls-signer-ends"
        with world.replica(identity="ends", status_port=port) as process:
            until(lambda: status(port, "/readyz") == 200, timeout=30)
            assert status(port, "/healthz") == 200
            assert world.api.exists(lease)
            process.send(signal.SIGTERM)
            until(lambda: not process.is_running, timeout=15)
            assert not world.api.exists(lease)
            assert "Traceback" not in process.log.read_text()


class TestRestarts:
    def test_killed_at_random_points(self, world):
        """Signers that are killed again and again lose no request."""
        chance = random.Random(6)  # noqa: S311 - the same points in each run
        names = [f"burst-{number}" for number in range(30)]
        pause = threading.Event()
        for number, name in enumerate(names):
            world.create_pod("shop", pod(name, volumes=[volume()]))
            if number % 10 == 9:
                with world.replica(identity=f"mortal-{number}"):
                    pause.wait(1.5 + 2 * chance.random())
        with world.replica(identity="survivor"):
            until(lambda: all(verdicts(world, "shop", name) for name in names), timeout=45)
        assert {verdict for name in names for verdict in verdicts(world, "shop", name)} == {
            ("Issued", "Issued")
        }

    def test_lost_replica(self, world):
        """The share of a replica that hangs moves to the others within 15 seconds or so."""
        names = [f"share-{number}" for number in range(8)]
        with (
            world.replica(identity="alive") as alive,
            world.replica(identity="hangs") as hangs,
        ):
            for process in (alive, hangs):
                until(lambda process=process: "answers requests" in process.log.read_text(), 30)
            until(lambda: "alive, hangs" in alive.log.read_text(), 30)
            hangs.send(signal.SIGSTOP)
            for name in names:
                world.create_pod("shop", pod(name, volumes=[volume()]))
            until(lambda: all(verdicts(world, "shop", name) for name in names), timeout=18)
