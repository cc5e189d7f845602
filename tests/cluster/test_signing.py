# SPDX-License-Identifier: Apache-2.0
"""The signer against the real API server: requests of real kubelets, and no rights but its own."""

from __future__ import annotations

import base64
import json
import random
import signal
import threading

import pytest
from cryptography import x509

from cluster import ApiStatusError, ControlPlane, HollowNode
from kubetls_sdk.volume_source import VolumeSource
from tests.cluster.pods import pod
from tests.cluster.signing_world import OTHER_SIGNER, SIGNER, SigningWorld, volume
from tests.waiting import until
from tests.webhook.signing.world import csr


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A cluster of this module's own, since signers of others would answer its requests."""
    folder = tmp_path_factory.mktemp("signing")
    with (
        ControlPlane(folder) as control_plane,
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
