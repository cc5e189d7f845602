# SPDX-License-Identifier: Apache-2.0
"""A partner with a bundle endpoint, from the configuration to a call over mTLS, and its removal.

The tests go through the life of one partner, in their order.
"""

from __future__ import annotations

import time

import httpx
import pytest
import yaml

from cluster import ApiStatusError, ControlPlane, HollowNode
from cluster.ports import free_ports
from kubetls_sdk.bundle import TrustBundle, TrustBundleSet
from kubetls_sdk.client.httpx import Client
from kubetls_sdk.source import StaticSource
from kubetls_sdk.spiffe_id import TrustDomain
from kubetls_sdk.testing import DevelopmentCA
from kubetls_sdk.volume_source import VolumeSource
from tests.cluster.distrust import Seconds
from tests.cluster.partner_cluster import (
    FILE,
    KUBELET_SECONDS,
    PARTNER_BUNDLE,
    PLATFORM,
    PREFIX,
    bundle_in,
    is_listening,
    partner_cluster,
)
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)

DOMAIN = TrustDomain.parse("example.org")
PARTNER = TrustDomain.parse("partner.example")
NOBODY = TrustBundle(PARTNER, ())
SERVER = "spiffe://example.org/ns/shop/sa/default"
WEB = "/ns/shop/sa/web"
POLICY = """\
version: 1
policies:
  - name: shop
    allow:
      - {name: ours, from: {namespace: shop, serviceAccount: web}, to: {paths: /ours}}
      - {name: negative, from: {namespace: "*", notNamespace: admin}, to: {paths: /negative}}
      - name: theirs
        from: {trustDomain: partner.example, namespace: shop, serviceAccount: web}
        to: {paths: /}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("partners")
    with (
        ControlPlane(folder) as control_plane,
        HollowNode(control_plane, "node-1") as node,
        partner_cluster(control_plane, {node.name: node}) as running,
    ):
        running.declare()
        yield running


@pytest.fixture(scope="module")
def volume(cluster):
    """The volume of a pod of `shop` that has asked for the partner."""
    found = cluster.folder(cluster.create("shop", "orders"))
    until(lambda: bundle_in(found, PARTNER) == cluster.endpoint.ca.bundle, timeout=KUBELET_SECONDS)
    return found


@pytest.fixture(scope="module")
def secret_volume(cluster):
    """The volume of a pod of `legacy`, which has a Secret, that has asked for the partner."""
    found = cluster.folder(cluster.create("legacy", "orders"), kind="secret")
    until(lambda: bundle_in(found, PARTNER) == cluster.endpoint.ca.bundle, timeout=KUBELET_SECONDS)
    return found


@pytest.fixture(scope="module")
def service(cluster, volume):
    """The URL of `kubetls serve` with the volume of the pod, and a policy."""
    policy = cluster.control_plane.folder / "policy.yaml"
    policy.write_text(POLICY)
    (port,) = free_ports(1)
    arguments = ("serve", "tests.cluster.echo:app", "--policy", str(policy), "--port", str(port))
    cluster.run("orders", *arguments, "--volume", str(volume))
    until(lambda: is_listening(port), timeout=30)
    return f"https://127.0.0.1:{port}"


@pytest.fixture
def ask(cluster, volume, service):
    """Calls the service as a workload of the partner, and returns statuses."""

    def run(*paths):
        svid = cluster.endpoint.ca.issue(WEB)
        bundles = TrustBundleSet([cluster.endpoint.ca.bundle, bundle_in(volume, DOMAIN)])
        with Client(server=SERVER, source=StaticSource(svid, bundles)) as client:
            return [client.get(f"{service}{path}").status_code for path in paths]

    return run


def is_refused(ask):
    """Whether the partner's workload does not get as far as the policy."""
    try:
        ask("/")
    except httpx.TransportError:
        return True
    return False


class TestPod:
    def test_that_asks(self, cluster, volume):
        """The partner's bundle is in its volume, beside its own, which has nothing of it."""
        assert bundle_in(volume, PARTNER) == cluster.endpoint.ca.bundle
        with VolumeSource(volume) as source:
            bundles = source.snapshot.bundles
        assert set(bundles) == {DOMAIN, PARTNER}
        assert bundles[PARTNER] == cluster.endpoint.ca.bundle
        assert not set(bundles[DOMAIN].authorities) & set(bundles[PARTNER].authorities)

    def test_that_has_a_secret(self, cluster, secret_volume):
        """The same in Secret mode."""
        assert bundle_in(secret_volume, PARTNER) == cluster.endpoint.ca.bundle

    def test_that_may_not(self, cluster):
        """In a namespace that may not see the partner it is refused, and told why."""
        with pytest.raises(ApiStatusError, match=f"{PREFIX}/partners"):
            cluster.create("closed", "curious")

    def test_what_is_published(self, cluster):
        """With number and time, under the partner's own name, and no selector of ours finds it."""
        metadata = cluster.api.get(PARTNER_BUNDLE)["metadata"]
        assert metadata["labels"][f"{PREFIX}/partner"] == "acme"
        assert f"{PREFIX}/trust-domain" not in metadata["labels"]
        assert int(metadata["annotations"][f"{PREFIX}/bundle-sequence"]) > 0


class TestCall:
    def test_policy(self, cluster, ask):
        """A rule without a trust domain never matches the partner; one that names it does."""
        assert ask("/", "/ours", "/negative") == [200, 403, 403]

    def test_our_own(self, cluster, service):
        """Our own workload of the very same path is another one."""
        account = {"metadata": {"name": "web"}}
        cluster.api.post("/api/v1/namespaces/shop/serviceaccounts", account)
        folder = cluster.folder(cluster.create("shop", "web", serviceAccountName="web"))
        with (
            VolumeSource(folder) as source,
            Client(server=SERVER, source=source) as client,
        ):
            paths = ("/", "/ours", "/negative")
            statuses = [client.get(f"{service}{path}").status_code for path in paths]
        assert statuses == [403, 404, 404]


class TestEndpoint:
    def test_new_root(self, cluster, volume, secret_volume):
        """The partner's next root is in both volumes."""
        cluster.endpoint.ca.add_root()
        cluster.endpoint.publish()
        wanted = cluster.endpoint.ca.bundle
        until(lambda: cluster.published == wanted, timeout=30)
        for namespace, folder in (("shop", volume), ("legacy", secret_volume)):
            cluster.touch(namespace)
            until(lambda at=folder: bundle_in(at, PARTNER) == wanted, timeout=KUBELET_SECONDS)

    def test_dead(self, cluster, ask):
        """Without its endpoint, and with a new leader, the last good bundle stays in force."""
        cluster.endpoint.process.end()
        (signer,) = cluster.installation.names("signer")
        log = cluster.control_plane.folder / "pods" / f"{signer}.log"
        said = log.read_text().count("ConnectError")
        until(lambda: log.read_text().count("ConnectError") > said, timeout=60)
        cluster.installation.runner.restart(signer)
        until(lambda: log.read_text().count("ConnectError") > said + 1, timeout=120)
        assert cluster.published == cluster.endpoint.ca.bundle
        assert ask("/") == [200]

    def test_too_old(self, cluster, volume, ask):
        """Past its maximum age nobody of it is trusted, and an Event says so."""
        cluster.installation.configure(cluster.endpoint.declared(maximumAge="5s"))
        until(lambda: cluster.annotations.get("withdrawn") == "too-old", timeout=60)
        cluster.touch("shop")
        until(lambda: bundle_in(volume, PARTNER) == NOBODY, timeout=KUBELET_SECONDS)
        until(lambda: is_refused(ask), timeout=5)
        events = "/apis/events.k8s.io/v1/namespaces/default/events"
        found = until(
            lambda: [
                each
                for each in cluster.api.get(events)["items"]
                if each["reason"] == "PartnerBundleTooOld"
            ],
            timeout=30,
        )
        assert found[0]["regarding"]["kind"] == "ClusterTrustBundle"

    def test_alive_again(self, cluster, volume):
        """A new leader remembers by whom to verify the endpoint, though it was withdrawn.

        The partner's first root, which the configuration begins with, has gone meanwhile.
        """
        (signer,) = cluster.installation.names("signer")
        cluster.installation.runner.restart(signer)
        ca = cluster.endpoint.ca
        ca.activate_root()
        ca.retire_root()
        cluster.endpoint.publish(renewed=True)
        cluster.endpoint.start()
        until(lambda: cluster.published == ca.bundle, timeout=90)
        cluster.touch("shop")
        until(lambda: bundle_in(volume, PARTNER) == ca.bundle, timeout=KUBELET_SECONDS)
        assert "withdrawn" not in cluster.annotations
        cluster.declare()

    def test_removed_root(self, cluster, volume, record_property):
        """A root that the partner removes is out of the SDK a second after the file."""
        ca = cluster.endpoint.ca
        ca.add_root()
        cluster.endpoint.publish()
        until(lambda: cluster.published == ca.bundle, timeout=30)
        cluster.touch("shop")
        until(lambda: bundle_in(volume, PARTNER) == ca.bundle, timeout=KUBELET_SECONDS)
        ca.activate_root()
        ca.retire_root()
        with VolumeSource(volume) as source:
            seen = Seconds(lambda snapshot: snapshot.bundles[PARTNER] == ca.bundle)
            source.subscribe(seen.take)
            cluster.endpoint.publish(renewed=True)
            until(lambda: cluster.published == ca.bundle, timeout=30)
            cluster.touch("shop")
            until(lambda: bundle_in(volume, PARTNER) == ca.bundle, KUBELET_SECONDS, interval=0.001)
            changed = time.monotonic()
            assert seen.is_over.wait(5)
        seconds = max(0.0, seen.distrusted - changed)
        record_property("removed_root_file_to_sdk_seconds", round(seconds, 3))
        assert seconds <= 1


class TestRemoval:
    def test_measured(self, cluster, volume, secret_volume, ask, record_property):
        """Out of the SDK a second after the file; out of the cluster with the kubelet's delay."""
        assert ask("/") == [200]
        with VolumeSource(volume) as source:
            seen = Seconds(lambda snapshot: not len(snapshot.bundles.get(PARTNER, ())))
            source.subscribe(seen.take)
            began = time.monotonic()
            cluster.installation.configure(PLATFORM)
            until(lambda: not cluster.api.exists(PARTNER_BUNDLE), timeout=60)
            removed = time.monotonic()
            until(lambda: bundle_in(volume, PARTNER) == NOBODY, KUBELET_SECONDS, interval=0.001)
            emptied = time.monotonic()
            assert seen.is_over.wait(5)
        found = {
            "configuration_to_bundle": removed - began,
            "configuration_to_volume": emptied - began,
            "file_to_sdk": max(0.0, seen.distrusted - emptied),
        }
        for name, seconds in found.items():
            record_property(f"removal_{name}_seconds", round(seconds, 3))
        print({name: f"{seconds:.3f} s" for name, seconds in found.items()})  # noqa: T201
        assert found["file_to_sdk"] <= 1
        assert found["configuration_to_bundle"] <= 15

    def test_call(self, volume, service, ask):
        """The partner's workload does not get as far as the policy any more; ours does."""
        until(lambda: is_refused(ask), timeout=5)
        with VolumeSource(volume) as source, Client(server=SERVER, source=source) as client:
            assert client.get(f"{service}/").status_code == 403

    def test_secret(self, cluster, secret_volume):
        """Its file is empty once the bundle has gone, and gone once the configuration has come."""
        until(lambda: bundle_in(secret_volume, PARTNER) == NOBODY, timeout=KUBELET_SECONDS)
        cluster.touch("kubetls-system")
        until(lambda: not (secret_volume / FILE).exists(), timeout=KUBELET_SECONDS)
        with VolumeSource(secret_volume) as source:
            assert set(source.snapshot.bundles) == {DOMAIN}

    def test_pods_that_ask_now(self, cluster):
        """They are refused, as soon as the injector knows."""
        names = (f"late-{number}" for number in range(1000))
        until(lambda: cluster.try_to_create("shop", next(names)) is None, timeout=90, interval=0.5)


class TestAnotherTrustDomain:
    def test_running_pods(self, cluster, volume, ask):
        """The name's new authorities never get into the file of its last trust domain."""
        ours = cluster.endpoint.ca.bundle
        for bundle, expected in ((ours, ours), (DevelopmentCA("bank.example").bundle, NOBODY)):
            pem = bundle.to_pem().decode()
            entry = {"name": "acme", "trustDomain": str(bundle.trust_domain), "bundle": pem}
            text = yaml.safe_dump({"partners": [{**entry, "namespaces": ["shop"]}]})
            cluster.installation.configure(PLATFORM + text)
            until(lambda wanted=pem: published_text(cluster) == wanted, timeout=90)
            cluster.touch("shop")
            until(lambda wanted=expected: bundle_in(volume, PARTNER) == wanted, KUBELET_SECONDS)
        until(lambda: is_refused(ask), timeout=5)


def published_text(cluster):
    """What is published of the partner, of whichever trust domain."""
    if not cluster.api.exists(PARTNER_BUNDLE):
        return ""
    return cluster.api.get(PARTNER_BUNDLE)["spec"]["trustBundle"]
