# SPDX-License-Identifier: Apache-2.0
"""Pools, bundles, rotation and the webhook's certificate against the real API server and kubelet.

A replica of the signer leads, as its service account, with the rights of the chart and no other.
"""

from __future__ import annotations

import asyncio
import json
import time

import pytest
import yaml

from cluster import ControlPlane, HollowNode
from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.exceptions import BundleError
from kubetls_sdk.spiffe_id import TrustDomain
from kubetls_sdk.testing import DevelopmentCA
from kubetls_sdk.verification import verify_svid
from kubetls_sdk.volume_source import VolumeSource
from tests.cluster.ca_operator import Operator
from tests.cluster.chart import SYSTEM
from tests.cluster.pods import pod
from tests.cluster.signing_world import CERTIFICATES, SIGNER, SigningWorld, volume
from tests.cluster.two_replicas import TwoReplicas
from tests.waiting import until
from webhook.api import Api
from webhook.capabilities import Capabilities
from webhook.names import CSI_DRIVER
from webhook.trust import serving_state
from webhook.trust.serving_certificate import ServingKeeper

pytestmark = pytest.mark.timeout(600)

DOMAIN = TrustDomain.parse("example.org")
PARTNER = TrustDomain.parse("partner.example")
BUNDLES = f"{CERTIFICATES}/clustertrustbundles"
BUNDLE = f"{BUNDLES}/kubetls.gauntletwizard.net:workload:example.org"
PARTNER_NAME = "kubetls.gauntletwizard.net:partner:acme"
PLATFORM = """\
version: 1
zones:
  - {name: default, trustDomain: example.org, propagation: 5s}
namespaces:
  - {names: ["*"]}
"""
MUTATING = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
KUBELET_SECONDS = 150
"""A kubelet looks at a pod's volumes about once a minute, and later on a busy machine."""


class TrustWorld(SigningWorld):
    """A cluster whose pools and bundles are made by the leader."""

    def install(self):
        super().install()
        self.configure(PLATFORM)
        self.operator = Operator(self.control_plane.kubeconfig, self.config)
        self.leader = self.control_plane.kubeconfig_of_service_account(SYSTEM, "kubetls-signer")

    def published(self, path=BUNDLE, domain=DOMAIN):
        """The bundle that is published."""
        if not self.api.exists(path):
            return TrustBundle(domain, ())
        text = self.api.get(path)["spec"]["trustBundle"]
        return TrustBundle.from_pem(domain, text.encode())

    def edit(self, text):
        """Edit the bundle as an administrator."""
        patch = json.dumps({"spec": {"trustBundle": text}})
        name = BUNDLE.rpartition("/")[2]
        self.kubectl("patch", "clustertrustbundle", name, "--type=merge", "-p", patch)

    def configure(self, text):
        """Change the configuration at once, as a mounted ConfigMap does."""
        new = self.config.with_suffix(".new")
        new.write_text(text)
        new.rename(self.config)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A cluster of this module's own: the leader removes what others publish as ours."""
    folder = tmp_path_factory.mktemp("trust")
    with ControlPlane(folder) as control_plane, HollowNode(control_plane, "node-1") as node:
        world = TrustWorld(control_plane, {node.name: node})
        world.install()
        control_plane.api.post("/api/v1/namespaces", {"metadata": {"name": "shop"}})
        until(lambda: control_plane.api.exists("/api/v1/namespaces/shop/serviceaccounts/default"))
        with world.replica():
            until(lambda: world.published().authorities, timeout=90)
            yield world


def bundle_in(folder, domain=DOMAIN):
    """The bundle that the kubelet wrote, or None while it is being written."""
    try:
        text = (folder / f"{domain}.trust-bundle.pem").read_bytes()
        return TrustBundle.from_pem(domain, text)
    except (OSError, BundleError):
        return None


def svid_in(folder):
    with VolumeSource(folder) as source:
        return source.snapshot.svid, source.snapshot.bundles


class TestBundles:
    def test_the_api_server_takes_them(self, world):
        """With signer, label and the pool's anchors."""
        body = world.api.get(BUNDLE)
        assert body["spec"]["signerName"] == SIGNER
        assert (
            body["metadata"]["labels"]["kubetls.gauntletwizard.net/trust-domain"] == "example.org"
        )
        assert world.published() == world.operator.pool().bundle

    def test_an_edit_is_reverted(self, world):
        """An administrator's mistake lasts for a moment."""
        right = world.published()
        world.edit(DevelopmentCA("example.org").bundle.to_pem().decode())
        until(lambda: world.published() == right)

    def test_a_deleted_one_comes_back(self, world):
        """The same."""
        right = world.published()
        world.api.delete(BUNDLE)
        until(lambda: world.published() == right)

    def test_what_others_publish_under_our_signer_goes(self, world):
        """An administrator may attest for it; every pod would trust what they wrote."""
        name = "kubetls.gauntletwizard.net:workload:evil"
        label = {"kubetls.gauntletwizard.net/trust-domain": "example.org"}
        pem = DevelopmentCA("example.org").bundle.to_pem().decode()
        spec = {"signerName": SIGNER, "trustBundle": pem}
        world.api.post(BUNDLES, {"metadata": {"name": name, "labels": label}, "spec": spec})
        until(lambda: not world.api.exists(f"{BUNDLES}/{name}"))

    def test_the_leader_writes_what_the_cluster_can_do(self, world):
        """For the injector."""
        path = f"/api/v1/namespaces/{SYSTEM}/configmaps/kubetls-capabilities"
        until(lambda: world.api.exists(path))
        found = Capabilities.parse(world.api.get(path)["data"]["capabilities.json"])
        driver = world.api.exists(f"/apis/storage.k8s.io/v1/csidrivers/{CSI_DRIVER}")
        assert found == Capabilities("v1", "v1", (), csi_driver=driver)

    def test_the_pool_is_for_signers_alone(self, world):
        """Another account of ours cannot read it."""
        injector = world.control_plane.kubeconfig_of_service_account(SYSTEM, "kubetls-injector")
        with pytest.raises(Exception, match="returned non-zero"):
            world.kubectl(
                f"--kubeconfig={injector}", "get", "secret", "kubetls-ca-default", "-n", SYSTEM
            )


class TestRotation:
    def test_pods_trust_each_other_all_the_way(self, world):
        """Old and new leaves verify under each pod's own bundle, until the last old pod ends."""
        old = world.create_pod("shop", pod("old", volumes=[volume()]))
        old_folder = world.files(old)
        first, _ = svid_in(old_folder)
        world.operator.order(lambda orders: orders.rotate())
        until(lambda: world.operator.states() == ["retired", "active"], timeout=60)
        until(lambda: len(bundle_in(old_folder) or ()) == 2, timeout=KUBELET_SECONDS)
        new_folder = world.files(world.create_pod("shop", pod("new", volumes=[volume()])))
        second, bundles = svid_in(new_folder)
        assert first.leaf.issuer != second.leaf.issuer
        verify_svid(first.chain, bundles=bundles, now=second.not_before)
        verify_svid(second.chain, bundles=svid_in(old_folder)[1], now=second.not_before)
        assert world.operator.states() == ["retired", "active"]
        world.api.delete(f"{world.path(old)}?gracePeriodSeconds=0")
        until(lambda: world.operator.states() == ["active"], timeout=60)
        assert len(world.published()) == 1
        until(lambda: len(bundle_in(new_folder) or ()) == 1, timeout=KUBELET_SECONDS)
        verify_svid(second.chain, bundles=svid_in(new_folder)[1], now=second.not_before)

    def test_a_rotation_is_given_up(self, world):
        """The next root leaves pool and bundle, the old one goes on."""
        world.configure(PLATFORM.replace("5s", "1h"))
        before = world.published()
        world.operator.order(lambda orders: orders.rotate())
        until(lambda: len(world.published()) == 2, timeout=30)
        world.operator.order(lambda orders: orders.abort())
        until(lambda: world.operator.states() == ["active"], timeout=30)
        assert world.published() == before
        world.configure(PLATFORM)


class TestPartner:
    def test_it_comes_and_goes_with_the_configuration(self, world):
        """Its file in a running pod is filled and emptied; ours never has an authority of it."""
        partner = DevelopmentCA("partner.example").bundle
        source = {
            "signerName": "kubetls.gauntletwizard.net/partner",
            "labelSelector": {"matchLabels": {"kubetls.gauntletwizard.net/partner": "acme"}},
            "optional": True,
            "path": f"{PARTNER}.trust-bundle.pem",
        }
        mounted = volume()
        mounted["projected"]["sources"].append({"clusterTrustBundle": source})
        folder = world.files(world.create_pod("shop", pod("guest", volumes=[mounted])))
        assert bundle_in(folder, PARTNER) == TrustBundle(PARTNER, ())
        entry = {"name": "acme", "trustDomain": str(PARTNER), "namespaces": ["*"]}
        entry["bundle"] = partner.to_pem().decode()
        world.configure(PLATFORM + yaml.safe_dump({"partners": [entry]}))
        path = f"{BUNDLES}/{PARTNER_NAME}"
        until(lambda: world.published(path, PARTNER) == partner)
        until(lambda: bundle_in(folder, PARTNER) == partner, timeout=KUBELET_SECONDS)
        assert bundle_in(folder) == world.published()
        started = time.monotonic()
        world.configure(PLATFORM)
        until(lambda: not world.api.exists(path))
        assert time.monotonic() - started < 10
        empty = TrustBundle(PARTNER, ())
        until(lambda: bundle_in(folder, PARTNER) == empty, timeout=KUBELET_SECONDS)


class TestServingCertificate:
    def test_no_admission_fails_while_it_is_renewed(self, world, tmp_path, monkeypatch):
        """Two replicas, one of which never gets the new certificate."""
        monkeypatch.setattr(serving_state, "SETTLING", serving_state.timedelta(seconds=3))
        with TwoReplicas(tmp_path) as replicas:
            configure_webhook(world, f"https://127.0.0.1:{replicas.port}/mutate")
            state = until(lambda: kept(world))
            replicas.serve(state.content(), both=True)
            admitted = 0
            add_name(world)
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                state = kept(world) or state
                replicas.serve(state.content(), both=False)
                replicas.disconnect()
                dry_run(world)
                admitted += 1
                if state.next is None and len(state.authorities) == 2:
                    break
            for _ in range(6):
                replicas.disconnect()
                dry_run(world)
            assert len(state.authorities) == 2
            assert admitted >= 4
            assert len(replicas.served) == 2
        world.api.delete(f"{MUTATING}/kubetls-injector")


def configure_webhook(world, url):
    """A configuration that admits nothing without the webhook."""
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    webhook = {
        "name": "inject.kubetls.gauntletwizard.net",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "timeoutSeconds": 5,
        "clientConfig": {"url": url},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}},
        "rules": [{**rule, "operations": ["CREATE"]}],
    }
    world.api.post(MUTATING, {"metadata": {"name": "kubetls-injector"}, "webhooks": [webhook]})


def add_name(world):
    """A second webhook, dialled by another name and for no namespace, makes a renewal due."""
    body = world.api.get(f"{MUTATING}/kubetls-injector")
    second = {
        **body["webhooks"][0],
        "name": "second.kubetls.gauntletwizard.net",
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "nowhere"}},
        "clientConfig": {
            **body["webhooks"][0]["clientConfig"],
            "url": "https://localhost:1/mutate",
        },
    }
    body["webhooks"].append(second)
    world.kubectl("replace", "-f", "-", stdin=json.dumps(body))


def kept(world):
    """What the leader does, here and now, so that each step is seen."""

    async def keep():
        async with await Api.connect(world.leader) as api:
            return await ServingKeeper(api).keep()

    return asyncio.run(keep())


def dry_run(world):
    world.api.post("/api/v1/namespaces/shop/pods?dryRun=All", pod("trial"))
