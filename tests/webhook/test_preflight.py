# SPDX-License-Identifier: Apache-2.0
"""The preflight says what a cluster lacks, one thing a line."""

import asyncio
import json

import pytest

from kubetls_sdk.testing import DevelopmentCA
from tests.webhook.api_double import ApiDouble
from webhook.api.client import ForbiddenError
from webhook.api.resources import (
    CLUSTER_TRUST_BUNDLES,
    CLUSTER_TRUST_BUNDLES_V1BETA1,
    CSI_DRIVERS,
    CSI_NODES,
    MUTATING_WEBHOOK_CONFIGURATIONS,
    NODES,
    POD_CERTIFICATE_REQUESTS,
    POD_CERTIFICATE_REQUESTS_V1BETA1,
    SELF_SUBJECT_ACCESS_REVIEWS,
)
from webhook.config import PlatformConfig
from webhook.preflight import Verdict, preflight

CONFIG = "version: 1\nzones: [{name: default, trustDomain: example.org}]\nnamespaces:\n"
NATIVE = CONFIG + "  - names: ['*']"
CSI = CONFIG + "  - {names: ['*'], modes: [csi]}"
CSI_OR_SECRET = CONFIG + "  - {names: ['*'], modes: [csi, secret]}"
DRIVER = "csi.kubetls.gauntletwizard.net"
DRIVER_SPEC = {
    "attachRequired": False,
    "podInfoOnMount": True,
    "requiresRepublish": True,
    "volumeLifecycleModes": ["Ephemeral"],
    "tokenRequests": [{"audience": "", "expirationSeconds": 600}],
}
EITHER = CONFIG + "  - {names: ['*'], modes: [pod-certificate, secret]}"
ROOT = DevelopmentCA("example.org").bundle.to_pem().decode()
V1 = (POD_CERTIFICATE_REQUESTS, CLUSTER_TRUST_BUNDLES)
BETA = (POD_CERTIFICATE_REQUESTS_V1BETA1, CLUSTER_TRUST_BUNDLES_V1BETA1)


class Cluster(ApiDouble):
    """A cluster with everything, where each access review is answered."""

    def __init__(self, *, denied=(), **settings):
        super().__init__(**settings)
        self.denied = denied
        info = {"kubeletVersion": "v1.37.2"}
        self.put(NODES, {"metadata": {"name": "n"}, "status": {"nodeInfo": info}})
        self.put_injector("Q0E=")
        name = "kubetls.gauntletwizard.net:workload:example.org"
        spec = {"signerName": "kubetls.gauntletwizard.net/workload", "trustBundle": ROOT}
        self.put(CLUSTER_TRUST_BUNDLES, {"metadata": {"name": name}, "spec": spec})

    def put_injector(self, bundle):
        webhooks = [{"clientConfig": {"caBundle": bundle}}]
        body = {"metadata": {"name": "kubetls-injector"}, "webhooks": webhooks}
        self.put(MUTATING_WEBHOOK_CONFIGURATIONS, body)

    async def create(self, resource, body, **options):
        assert resource is SELF_SUBJECT_ACCESS_REVIEWS, "preflight only reads"
        asked = body["spec"]["resourceAttributes"]
        return {"status": {"allowed": (asked["verb"], asked["resource"]) not in self.denied}}


def found(cluster, text=NATIVE):
    """Verdict and message by subject."""
    findings = asyncio.run(preflight(cluster, PlatformConfig.parse(text)))
    return {each.subject: (each.verdict, each.message) for each in findings}


class TestComplete:
    def test_everything_is_there(self):
        """Nothing but `ok`."""
        verdicts = {verdict for verdict, _ in found(Cluster()).values()}
        assert verdicts == {Verdict.OK}


class TestLacks:
    def test_an_old_server(self):
        """The version that it takes is named."""
        verdict, message = found(Cluster(server_version=(1, 29)))["API server"]
        assert verdict is Verdict.FAILURE
        assert "expected Kubernetes 1.30 or newer" in message

    @pytest.mark.parametrize(
        ("served", "text", "expected"),
        [
            pytest.param(V1, NATIVE, Verdict.OK, id="v1"),
            pytest.param(BETA, NATIVE, Verdict.WARNING, id="v1beta1"),
            pytest.param((), NATIVE, Verdict.FAILURE, id="none-and-needed"),
            pytest.param((), EITHER, Verdict.WARNING, id="none-but-secrets"),
        ],
    )
    def test_pod_certificates(self, served, text, expected):
        """A failure only where a namespace has no other mode."""
        assert found(Cluster(served=served), text)["PodCertificateRequests"][0] is expected

    def test_old_nodes_are_named(self):
        """The nodes that keep pods from native certificates."""
        cluster = Cluster()
        info = {"kubeletVersion": "v1.33.1"}
        cluster.put(NODES, {"metadata": {"name": "old"}, "status": {"nodeInfo": info}})
        verdict, message = found(cluster)["nodes"]
        assert verdict is Verdict.WARNING
        assert message.endswith(": old")

    def test_rights_are_named(self):
        """Each right that is missing, with the object's name where it is limited to one."""
        cluster = Cluster(denied={("sign", "signers"), ("watch", "pods")})
        verdict, message = found(cluster)["rights of the signer"]
        assert verdict is Verdict.FAILURE
        assert "watch pods" in message
        assert "sign signers.certificates.k8s.io 'kubetls.gauntletwizard.net/workload'" in message

    def test_external_signer(self):
        """Approving for somebody else's signer is a right of its own."""
        zone = {
            "name": "default",
            "trustDomain": "example.org",
            "externalSigner": "issuers.example.org/corp",
            "trustBundle": DevelopmentCA("example.org").bundle.to_pem().decode(),
        }
        rule = {"names": ["*"], "modes": ["secret"]}
        text = json.dumps({"version": 1, "zones": [zone], "namespaces": [rule]})
        message = found(Cluster(denied={("approve", "signers")}), text)["rights of the signer"][1]
        assert "approve signers.certificates.k8s.io 'issuers.example.org/corp'" in message

    def test_an_injector_that_no_api_server_can_verify(self):
        """The signer's leader has not written the caBundle."""
        cluster = Cluster()
        cluster.put_injector("")
        assert found(cluster)["injector"][0] is Verdict.FAILURE

    def test_what_is_not_installed_yet(self):
        """Before the installation these are warnings."""
        cluster = Cluster()
        cluster.remove(MUTATING_WEBHOOK_CONFIGURATIONS, "kubetls-injector")
        cluster.remove(CLUSTER_TRUST_BUNDLES, "kubetls.gauntletwizard.net:workload:example.org")
        report = found(cluster)
        assert report["injector"] == (Verdict.WARNING, "not there yet")
        verdict, message = report["trust bundle of example.org"]
        assert (verdict, message.partition(":")[0]) == (Verdict.WARNING, "not there yet")

    def test_what_may_not_be_read(self):
        """A missing right of the one who looks is said, and is no failure of the cluster."""
        cluster = Cluster()
        cluster.fail("list", ForbiddenError("nodes is forbidden", status=403), resource=NODES)
        assert found(cluster)["nodes"][0] is Verdict.WARNING


class TestZones:
    def test_who_can_reach_whom(self):
        """Each zone has a line that names whom its workloads can reach, and whom they cannot."""
        zones = "[{name: a, trustDomain: a.example}, {name: b, trustDomain: b.example}]"
        text = f"version: 1\nzones: {zones}\nnamespaces:\n  - {{names: ['*'], zones: [a, b]}}\n"
        report = found(Cluster(), text)
        assert report["zone a"] == (Verdict.OK, "can reach a (its own zone); CANNOT reach b")

    def test_a_foreign_bundle_under_our_signer_name(self):
        """Pods would trust it: a failure."""
        cluster = Cluster()
        spec = {"signerName": "kubetls.gauntletwizard.net/workload", "trustBundle": ROOT}
        name = "kubetls.gauntletwizard.net:workload:evil"
        cluster.put(CLUSTER_TRUST_BUNDLES, {"metadata": {"name": name}, "spec": spec})
        assert found(cluster)[f"trust bundle {name}"][0] is Verdict.FAILURE

    def test_bundles_that_may_not_be_listed(self):
        """A missing right of the one who looks is said."""
        cluster = Cluster()
        error = ForbiddenError("no", status=403)
        cluster.fail("list", error, resource=CLUSTER_TRUST_BUNDLES)
        assert found(cluster)["trust bundles"][0] is Verdict.WARNING


class TestCsi:
    def cluster(self, *, nodes=(), **changes):
        made = Cluster()
        body = {"metadata": {"name": DRIVER}, "spec": {**DRIVER_SPEC, **changes}}
        made.put(CSI_DRIVERS, body)
        for name in nodes:
            spec = {"drivers": [{"name": "other.example"}, {"name": DRIVER}]}
            made.put(CSI_NODES, {"metadata": {"name": name}, "spec": spec})
        return made

    def test_nobody_asks_for_it(self):
        """Where neither driver nor rule is there, nothing is said."""
        assert not {subject for subject in found(Cluster()) if "CSI" in subject}

    @pytest.mark.parametrize(
        ("text", "verdict", "words"),
        [
            (CSI, Verdict.FAILURE, "set csi.enabled, or list another mode"),
            (CSI_OR_SECRET, Verdict.WARNING, "pods get another mode"),
        ],
        ids=["only", "or another"],
    )
    def test_not_installed(self, text, verdict, words):
        """A failure only where pods can have nothing else."""
        is_said, message = found(Cluster(), text)["CSI driver"]
        assert is_said is verdict
        assert words in message

    def test_all_is_there(self):
        """The audience is said, and the nodes are counted."""
        findings = found(self.cluster(nodes=["n"]), CSI)
        own = "registered, with pods' tokens for the API server's own audience"
        assert findings["CSI driver"] == (Verdict.OK, own)
        assert findings["CSI driver on nodes"] == (Verdict.OK, "registered on all 1")
        request = {"audience": "kubetls.example"}
        _, message = found(self.cluster(tokenRequests=[request]), CSI)["CSI driver"]
        assert "audience 'kubetls.example'" in message

    @pytest.mark.parametrize(
        "changes",
        [
            {"podInfoOnMount": None},
            {"requiresRepublish": False},
            {"volumeLifecycleModes": ["Persistent"]},
            {"attachRequired": True},
            {"tokenRequests": []},
            {"tokenRequests": [{"audience": ""}, {"audience": "vault"}]},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_registered_otherwise(self, changes):
        """A driver that cannot work as it is registered is a failure that names the field."""
        verdict, message = found(self.cluster(nodes=["n"], **changes), CSI)["CSI driver"]
        assert verdict is Verdict.FAILURE
        assert next(iter(changes)) in message

    def test_nodes_without_it(self):
        """They are named, Windows nodes apart."""
        cluster = self.cluster(nodes=["n"])
        for name, system in {"m": "linux", "w": "windows"}.items():
            info = {"kubeletVersion": "v1.37.2", "operatingSystem": system}
            cluster.put(NODES, {"metadata": {"name": name}, "status": {"nodeInfo": info}})
        verdict, message = found(cluster, CSI)["CSI driver on nodes"]
        assert verdict is Verdict.WARNING
        assert message == "missing, so that pods wait there: m"

    @pytest.mark.parametrize(
        ("method", "resource", "subject"),
        [("get", CSI_DRIVERS, "CSI driver"), ("list", CSI_NODES, "CSI driver on nodes")],
    )
    def test_what_may_not_be_read(self, method, resource, subject):
        """A right that is missing is said, and is no verdict on the cluster."""
        cluster = self.cluster(nodes=["n"])
        cluster.fail(method, ForbiddenError("no"), resource=resource)
        verdict, message = found(cluster, CSI)[subject]
        assert verdict is Verdict.WARNING
        assert "not looked at" in message
