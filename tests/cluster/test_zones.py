# SPDX-License-Identifier: Apache-2.0
"""Zones of trust in one cluster: apart unless bundle and rule say so, and rotated apart.

Rules:
1. The classes of this module are one walk: apart, trusting each other, one rotated, picture.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import httpx
import pytest

from cluster import binaries
from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.spiffe_id import TrustDomain
from kubetls_sdk.volume_source import VolumeSource
from tests.cluster.chart import SYSTEM
from tests.cluster.distrust import Seconds
from tests.cluster.zones_world import (
    DOMAINS,
    PARTNERS,
    PLATFORM,
    ZONES,
    called,
    called_blindly,
    serving,
    write_policy,
    zones_world,
)
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)

PCI = TrustDomain.parse(DOMAINS["payments"])
KUBELET_SECONDS = 150
"""A kubelet looks at a pod's volumes about once a minute, and later on a busy machine."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The cluster."""
    with zones_world(tmp_path_factory.mktemp("zones")) as world:
        yield world


@pytest.fixture(scope="module")
def apart(world):
    """A pod of each namespace, made before any zone trusts another: pod and folder."""
    return {namespace: world.create(namespace, "plain") for namespace in ZONES}


@pytest.fixture(scope="module")
def links(apart):
    """What the kubelet wrote last for the pods of the zones that nobody changes."""
    return {each: os.readlink(apart[each][1] / "..data") for each in ("shop", "lab")}


def links_now(apart):
    """The same, now."""
    return {each: os.readlink(apart[each][1] / "..data") for each in ("shop", "lab")}


@pytest.fixture(scope="module")
def trusting(world, apart):
    """Pods of two zones that ask for each other's bundle; both zones allow it."""
    before = world.bundle_names()
    world.configure({**PLATFORM, "partners": PARTNERS})
    until(lambda: not world.may_create("shop", partners="pci"), timeout=30)
    until(lambda: not drifted(world), timeout=30)
    found = {
        "shop": world.create("shop", "caller", partners="pci"),
        "payments": world.create("payments", "callee", partners="main"),
    }
    assert world.bundle_names() == before, "what is published already is used"
    return found


def roots(world, namespace):
    """The roots of a namespace's zone, as they are published."""
    domain = TrustDomain.parse(DOMAINS[namespace])
    return TrustBundle.from_pem(domain, world.bundle(namespace)["spec"]["trustBundle"].encode())


def bundles_in(folder):
    """The trust bundles in a volume, as the SDK reads them, by trust domain."""
    with VolumeSource(folder) as source:
        return {str(domain): bundle for domain, bundle in source.snapshot.bundles.items()}


class TestApart:
    @pytest.mark.parametrize("namespace", ZONES)
    def test_identity_and_bundle_are_of_the_zone(self, world, apart, namespace):
        """By namespace, a pod has an identity of its zone and trusts nobody else."""
        _, folder = apart[namespace]
        with VolumeSource(folder) as source:
            name = str(source.snapshot.svid.spiffe_id)
        assert name == f"spiffe://{DOMAINS[namespace]}/ns/{namespace}/sa/default"
        assert bundles_in(folder) == {DOMAINS[namespace]: roots(world, namespace)}

    def test_within_a_zone(self, world, apart, tmp_path):
        """Workloads of one zone reach each other."""
        _, folder = apart["payments"]
        with serving(folder, tmp_path / "server.log") as url:
            assert called(folder, url, "payments")[0] == 200

    @pytest.mark.parametrize(
        ("here", "there"), [("shop", "payments"), ("payments", "shop"), ("lab", "shop")]
    )
    def test_between_zones(self, world, apart, here, there, tmp_path):
        """Client and server refuse each other's handshake, each by itself."""
        log = tmp_path / "server.log"
        with serving(apart[there][1], log) as url:
            with pytest.raises(httpx.ConnectError):
                called(apart[here][1], url, there)
            assert called_blindly(apart[here][1], url) == b""
            assert b"200 OK" in called_blindly(apart[there][1], url)
        assert "refused handshake of 127.0.0.1" in log.read_text()
        assert f"trust bundles of {DOMAINS[there]}, last changed" in log.read_text()

    def test_a_pod_cannot_choose(self, world):
        """Neither another zone, nor its bundle."""
        assert "annotation" in world.may_create("shop", zone="pci")
        assert "annotation" in world.may_create("lab", partners="pci")


class TestTrusting:
    def test_bundles(self, world, trusting):
        """Who asks has the other zone's published bundle beside its own."""
        expected = {DOMAINS[each]: roots(world, each) for each in ("shop", "payments")}
        for _, folder in trusting.values():
            until(lambda folder=folder: bundles_in(folder) == expected, timeout=KUBELET_SECONDS)

    def test_a_rule_must_name_the_trust_domain(self, world, trusting, tmp_path):
        """With both bundles the handshake passes; the policy decides, and means its own zone."""
        own = {"namespace": "shop", "serviceAccount": "default"}
        (_, caller), (_, callee) = trusting["shop"], trusting["payments"]
        with serving(callee, tmp_path / "a.log", write_policy(tmp_path / "a.yaml", **own)) as url:
            assert called(caller, url, "payments")[0] == 403
        named = write_policy(tmp_path / "b.yaml", trustDomain="example.org", **own)
        with serving(callee, tmp_path / "b.log", named) as url:
            status, said = called(caller, url, "payments")
        assert (status, said) == (200, "spiffe://example.org/ns/shop/sa/default")

    def test_one_side_alone(self, apart, trusting, tmp_path):
        """Without the other's bundle on both sides there is no connection."""
        with (
            serving(apart["payments"][1], tmp_path / "a.log") as url,
            pytest.raises(httpx.HTTPError),
        ):
            called(trusting["shop"][1], url, "payments")
        with (
            serving(trusting["payments"][1], tmp_path / "b.log") as url,
            pytest.raises(httpx.ConnectError),
        ):
            called(apart["shop"][1], url, "payments")

    def test_nobody_else(self, world, trusting):
        """A namespace that the platform does not name cannot ask."""
        assert "annotation" in world.may_create("lab", partners="pci")
        assert "annotation" in world.may_create("lab", partners="main")

    def test_secret_mode(self, world, trusting, tmp_path):
        """A pod with a Secret has the other zone's bundle in it, and is let in alike."""
        _, folder = world.create("payments", "secretive", partners="main", mode="secret")
        expected = {DOMAINS[each]: roots(world, each) for each in ("shop", "payments")}
        assert bundles_in(folder) == expected
        with serving(folder, tmp_path / "server.log") as url:
            assert called(trusting["shop"][1], url, "payments")[0] == 200


class Load:
    """Workloads that call each other all the time, each with files that are followed."""

    def __init__(self, *calls):
        self._calls = calls
        self._stop = threading.Event()
        self.done = [0 for _ in calls]
        self.failures = []
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(len(calls))
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, number):
        while not self._stop.wait(0.2):
            try:
                status, _ = called(*self._calls[number])
                assert status == 200
                self.done[number] += 1
            except (httpx.HTTPError, AssertionError) as err:
                self.failures.append((number, repr(err)))


class TestRotation:
    def test_other_zones_do_not_notice(self, world, apart, trusting, links, tmp_path):
        """A zone moves to another root under load; what others have stays as it is."""
        operator, first = world.operator("pci"), roots(world, "payments")
        others = {each: world.bundle(each) for each in ("shop", "lab")}
        (_, caller), (_, callee) = trusting["shop"], trusting["payments"]
        with (
            VolumeSource(apart["shop"][1]) as shop,
            VolumeSource(apart["lab"][1]) as lab,
            serving(apart["shop"][1], tmp_path / "shop.log") as shop_url,
            serving(callee, tmp_path / "pci.log") as pci_url,
        ):
            generations = (shop.snapshot.generation, lab.snapshot.generation)
            calls = ((apart["shop"][1], shop_url, "shop"), (callee, pci_url, "payments"))
            between = (caller, pci_url, "payments")
            with Load(*calls, between) as load:
                operator.order(lambda orders: orders.rotate())
                until(lambda: operator.states() == ["retired", "active"], timeout=60)
                both = roots(world, "payments")
                assert len(both) == 2
                for folder in (callee, caller):
                    until(
                        lambda folder=folder: bundles_in(folder)["pci.example"] == both,
                        timeout=KUBELET_SECONDS,
                    )
                _, moved = world.create("payments", "moved", partners="main")
                with serving(moved, tmp_path / "moved.log") as moved_url:
                    assert called(callee, moved_url, "payments")[0] == 200
                    assert called(caller, moved_url, "payments")[0] == 200
                assert called(moved, pci_url, "payments")[0] == 200
            assert load.failures == []
            assert min(load.done) > 10
            assert generations == (shop.snapshot.generation, lab.snapshot.generation)
        assert {each: world.bundle(each) for each in others} == others
        assert links_now(apart) == links
        assert roots(world, "payments") != first

    def test_the_old_root_goes(self, world, apart, links, record_property):
        """When no pod has a certificate under it, it leaves the zone, and only there.

        A running pod's volume loses it with the kubelet's delay, its SDK a second after the file.
        """
        others = {each: world.bundle(each) for each in ("shop", "lab")}
        pods = world.api.get("/api/v1/namespaces/payments/pods")["items"]
        (moved,) = (each for each in pods if each["metadata"]["name"] == "moved")
        folder = world.files(moved, timeout=10)
        file = folder / f"{DOMAINS['payments']}.trust-bundle.pem"
        with VolumeSource(folder) as source:
            seen = Seconds(lambda snapshot: len(snapshot.bundles[PCI]) == 1)
            source.subscribe(seen.take)
            for each in pods:
                if each is not moved:
                    world.delete(each)
            until(lambda: len(roots(world, "payments")) == 1, timeout=120)
            withdrawn = time.monotonic()
            until(lambda: file.read_bytes().count(b"BEGIN") == 1, KUBELET_SECONDS, interval=0.001)
            written = time.monotonic()
            assert seen.is_over.wait(5)
        found = {"volume": written - withdrawn, "sdk": max(0.0, seen.distrusted - written)}
        for name, seconds in found.items():
            record_property(f"old_root_leaves_{name}_seconds", round(seconds, 3))
        print({name: f"{seconds:.3f} s" for name, seconds in found.items()})  # noqa: T201
        assert found["sdk"] <= 1
        until(lambda: world.operator("pci").states() == ["active"], timeout=30)
        assert {each: world.bundle(each) for each in others} == others
        assert links_now(apart) == links


class TestPicture:
    def test_of_the_cluster(self, world, trusting):
        """The command shows what is configured, what pods have, and that nothing has drifted."""
        document = json.loads(shown(world, "--format", "json"))
        reach = {each["name"]: each["reach"] for each in document["zones"]}
        assert reach["default"]["pci.example"] == "both may ask"
        assert reach["lab"]["pci.example"] == "never"
        places = {
            place["name"]: place for group in document["groups"] for place in group["namespaces"]
        }
        assert places["shop"]["zones"] == {"default": 2}
        assert places["shop"]["trusts"] == {"pci.example": 1}
        assert drifted(world) == []

    def test_text(self, world, trusting):
        """Who cannot reach whom is said in words."""
        text = shown(world)
        assert "CANNOT reach  default, pci" in text

    def test_as_the_signer(self, world, trusting):
        """In the signer's pod it reads the ConfigMap, and says what that account may not see."""
        path = f"/api/v1/namespaces/{SYSTEM}/configmaps"
        data = {"platform.yaml": world.config.read_text()}
        world.api.post(path, {"metadata": {"name": "kubetls-config"}, "data": data})
        account = world.control_plane.kubeconfig_of_service_account(SYSTEM, "kubetls-signer")
        try:
            text = printed(account)
        finally:
            world.api.delete(f"{path}/kubetls-config")
        assert "shop: 2 pods, 2 in default; also trust pci.example (1)" in text
        assert "namespaces" in text.split("\nFound\n")[1].splitlines()[0]
        assert "FAILURE" not in text.upper()


class TestRemoved:
    def test_new_pods_and_old_ones(self, world, apart, trusting):
        """No new pod may ask; one that runs loses the other zone's bundle, and is named."""
        _, caller = trusting["shop"]
        assert bundles_in(caller)["pci.example"].authorities
        world.configure(PLATFORM)
        until(lambda: not bundles_in(caller)["pci.example"].authorities, timeout=KUBELET_SECONDS)
        assert bundles_in(caller)["example.org"] == roots(world, "shop")
        until(lambda: world.may_create("shop", partners="pci"), timeout=30)
        text = shown(world)
        assert "1 pod asking for bundles that are not for this namespace any more" in text
        assert "until recreated: caller" in text


def drifted(world):
    """What the command finds that is not as configured."""
    findings = json.loads(shown(world, "--format", "json"))["findings"]
    return [each for each in findings if each["verdict"] != "ok"]


def shown(world, *options):
    """What the command prints about the cluster to an administrator."""
    kubeconfig = world.control_plane.kubeconfig
    return printed(kubeconfig, "--config", str(world.config), "--live", *options)


def printed(kubeconfig, *options):
    """What `python -m webhook zones` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "webhook", "zones", *options],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=binaries.ROOT,
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
