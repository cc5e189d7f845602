# SPDX-License-Identifier: Apache-2.0
"""The mode `csi` on the real API server: kubelets' own CSI code, the driver from our manifests.

Rules:
    1. Pods are written by people who know nothing of certificates; each test has its own namespace.
    2. The last tests of this module end the signer or replace a root: all others come before.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from examples.demo_cluster.cases import call
from examples.demo_cluster.shop import Shop
from kubetls_sdk.volume_source import VolumeSource
from tests.cluster.ca_operator import Operator
from tests.cluster.csi_world import NODES, PLATFORM, CsiWorld, csi_world
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from kubetls_sdk.source import Snapshot

pytestmark = pytest.mark.timeout(200)

CREDENTIALS, BUNDLE = "credential-bundle.pem", "example.org.trust-bundle.pem"
AT_ONCE = 8.0  # Seconds, on a machine that runs a whole cluster.
SIGNER = "kubetls.gauntletwizard.net/workload"
TOKEN = re.compile(r"eyJ[\w-]{20,}\.eyJ[\w-]{20,}\.[\w-]{20,}")
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CsiWorld]:
    """A cluster of this module's own, with the driver on two nodes."""
    with csi_world(tmp_path_factory.mktemp("csi")) as running:
        yield running


@pytest.fixture
def namespace(world: CsiWorld) -> str:
    """A namespace of the test's own."""
    return world.namespace(f"team-{next(_numbers)}")


def names(snapshot: Snapshot) -> tuple[list[str], list[str], str]:
    """URIs, DNS names and common name of a certificate."""
    leaf = snapshot.svid.leaf
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    common = [str(each.value) for each in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return (
        found.get_values_for_type(x509.UniformResourceIdentifier),
        sorted(found.get_values_for_type(x509.DNSName)),
        "".join(common),
    )


def dns_names(folder: Path) -> list[str]:
    """The DNS names in a volume."""
    with VolumeSource(folder) as source:
        return names(source.snapshot)[1]


class TestPod:
    """What a pod gets that asked for nothing."""

    def test_identity(self, world: CsiWorld, namespace: str) -> None:
        """Its account's SPIFFE ID, the names of its Service, and its own name, all verified."""
        world.service(namespace, "web", "web")
        account = {"metadata": {"name": "frontend"}}
        world.api.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
        created = world.create(namespace, serviceAccountName="frontend")
        service = [f"web.{namespace}.svc", f"web.{namespace}.svc.cluster.local"]
        assert names(world.snapshot(created)) == (
            [f"spiffe://example.org/ns/{namespace}/sa/frontend"],
            service,
            "web",
        )

    def test_without_a_service(self, world: CsiWorld, namespace: str) -> None:
        """A pod that no Service selects has a SPIFFE ID, and no other name."""
        created = world.create(namespace)
        identity = f"spiffe://example.org/ns/{namespace}/sa/default"
        assert names(world.snapshot(created)) == ([identity], [], "")

    def test_volume(self, world: CsiWorld, namespace: str) -> None:
        """The files are those of the other modes, in the folder where the SDK looks."""
        created = world.create(namespace)
        mounts = created["spec"]["containers"][0]["volumeMounts"]
        assert {
            "name": "kubetls",
            "mountPath": "/run/secrets/workload-spiffe-credentials",
            "readOnly": True,
        } in mounts
        assert {each.name for each in world.files(created).glob("[!.]*")} == {CREDENTIALS, BUNDLE}

    def test_in_memory(self, world: CsiWorld, namespace: str) -> None:
        """Where the driver may mount, a volume is a tmpfs, shown to the pod read-only."""
        created = world.create(namespace)
        world.files(created)
        found = world.mounts_of(created)
        assert len(found) == world.mounts
        for line in found:
            before, _, after = line.partition(" - ")
            assert after.startswith("tmpfs kubetls-csi-")
            assert {"ro", "nosuid", "nodev", "noexec"} <= set(before.split()[5].split(","))

    def test_key_is_nowhere_else(self, world: CsiWorld, namespace: str) -> None:
        """Neither the key nor any token is in a log, in the API, or on the disk."""
        created = world.create(namespace)
        lines = (world.files(created) / CREDENTIALS).read_text().splitlines()
        assert lines[0].endswith(" PRIVATE KEY-----")
        audit = world.audit.read_text()
        assert f"/namespaces/{namespace}/pods" in audit
        written = [*world.logs(), audit]
        assert [text[:80] for text in written if lines[2] in text] == []
        assert [text[:80] for text in written if TOKEN.search(text)] == []
        folder = world.control_plane.folder
        database = b"".join(
            each.read_bytes() for each in folder.rglob("etcd/**/*") if each.is_file()
        )
        assert namespace.encode() in database
        assert lines[2].encode() not in database

    def test_no_secret(self, world: CsiWorld, namespace: str) -> None:
        """There is no Secret in the pod's namespace."""
        world.files(world.create(namespace))
        assert world.api.get(f"/api/v1/namespaces/{namespace}/secrets")["items"] == []

    def test_asked_as_the_pod(self, world: CsiWorld, namespace: str) -> None:
        """The request is the pod's own: the API server wrote the pod into it, nobody else."""
        created = world.create(namespace)
        world.files(created)
        user = f"system:serviceaccount:{namespace}:default"
        [spec] = [e["spec"] for e in world.requests() if e["spec"]["username"] == user]
        prefix = "authentication.kubernetes.io"
        assert {key: spec["extra"][f"{prefix}/{key}"] for key in ("pod-uid", "node-name")} == {
            "pod-uid": [created["metadata"]["uid"]],
            "node-name": [NODES[0]],
        }

    def test_end(self, world: CsiWorld, namespace: str) -> None:
        """When the pod is gone, so are target, mounts and memory."""
        created = world.create(namespace)
        target, home = world.files(created), world.homes(NODES[0])
        world.delete(created)
        until(lambda: not target.exists(), timeout=60)
        until(lambda: len(world.homes(NODES[0])) == len(home) - 1, timeout=30)
        assert world.mounts_of(created) == []


class TestChange:
    """What has changed is in the volume at once, and not when the certificate is half over."""

    def test_service(self, world: CsiWorld, namespace: str) -> None:
        """A new Service's names come with a new key, and go with it."""
        folder = world.files(world.create(namespace))
        key = (folder / CREDENTIALS).read_bytes()
        world.service(namespace, "late", "web")
        until(lambda: f"late.{namespace}.svc" in dns_names(folder), timeout=AT_ONCE)
        assert (folder / CREDENTIALS).read_bytes().splitlines()[2] != key.splitlines()[2]
        world.api.delete(f"/api/v1/namespaces/{namespace}/services/late")
        until(lambda: dns_names(folder) == [], timeout=AT_ONCE)

    def test_sdk_follows(self, world: CsiWorld, namespace: str) -> None:
        """A running application has the new certificate without a restart."""
        with VolumeSource(world.files(world.create(namespace))) as source:
            world.service(namespace, "late", "web")
            until(lambda: names(source.snapshot)[1], timeout=AT_ONCE)

    def test_shorter_lifetime(self, world: CsiWorld, namespace: str) -> None:
        """When the platform shortens lifetimes, what lives longer is renewed."""
        folder = world.files(world.create(namespace))
        world.installation.configure(PLATFORM.replace("default: 24h", "default: 2h"))
        world.hurry()

        def hours() -> int:
            leaf = x509.load_pem_x509_certificates((folder / CREDENTIALS).read_bytes())[0]
            return round((leaf.not_valid_after_utc - leaf.not_valid_before_utc).seconds / 3600)

        until(lambda: hours() == 2, timeout=90)


class TestDriver:
    """The driver's own life is no event for the pods."""

    def test_killed(self, world: CsiWorld, namespace: str) -> None:
        """After SIGKILL it finds its volumes again: nothing is asked for, nothing is written."""
        created = world.create(namespace)
        folder = world.files(created)
        held, asked = (folder / "..data").readlink(), len(world.requests())
        world.kill_driver(NODES[0])
        world.publish(created)
        assert ((folder / "..data").readlink(), len(world.requests())) == (held, asked)

    def test_goes_on_afterwards(self, world: CsiWorld, namespace: str) -> None:
        """With the kubelet's next token it renews what it took over."""
        folder = world.files(world.create(namespace))
        world.kill_driver(NODES[0])
        world.service(namespace, "late", "web")
        until(lambda: f"late.{namespace}.svc" in dns_names(folder), timeout=90)

    def test_away(self, world: CsiWorld, namespace: str) -> None:
        """Pods that start or end meanwhile wait for it."""
        ending = world.create(namespace, "ending")
        target = world.files(ending)
        process = world.process("node", NODES[0])
        process.end()
        starting = world.create(namespace, "starting")
        world.delete(ending)
        process.start()
        world.files(starting)
        until(lambda: not target.exists(), timeout=90)


class TestCalls:
    """Applications with what they got."""

    def test_shop(self, world: CsiWorld) -> None:
        """The service web calls orders without a pause; whoever is not in the policy is refused."""
        with Shop(world.control_plane, world.nodes) as shop:
            until(lambda: shop.load()["requests"] > 100, timeout=60)
            before = shop.load()["failed"]
            world.kill_driver(NODES[0])
            world.kill_driver(NODES[1])
            shop.roll("orders")
            assert shop.load()["failed"] == before
            assert call(shop, shop.snapshot_of(shop.pod("web"))) == "200"
            assert call(shop, shop.snapshot_of(shop.pod("guest"))) == "403"


class TestSigner:
    def test_away(self, world: CsiWorld, namespace: str) -> None:
        """What pods have stays; their owners are told; new pods wait, and get it afterwards."""
        folder = world.files(world.create(namespace))
        held = (folder / "..data").readlink()
        with world.without_signer():
            world.service(namespace, "late", "web")
            waiting = world.create(namespace, "waiting")
            until(lambda: world.events(namespace, "VolumeNotRenewed"), timeout=120)
            until(lambda: world.events(namespace, "VolumeNotPublished"), timeout=120)
            assert not (world.target(waiting) / "..data").exists()
            assert (folder / "..data").readlink() == held
        world.wait_for("signer")
        until(lambda: f"late.{namespace}.svc" in dns_names(folder), timeout=130)
        world.files(waiting, timeout=130)


def published(world: CsiWorld) -> str:
    """The trust bundle of the zone, as the API server has it."""
    found = world.api.get("/apis/certificates.k8s.io/v1/clustertrustbundles")["items"]
    [spec] = [each["spec"] for each in found if each["spec"].get("signerName") == SIGNER]
    return spec["trustBundle"]


def roots(pem: str) -> int:
    return pem.count("BEGIN CERTIFICATE")


class TestRoot:
    def test_new_root(self, world: CsiWorld, namespace: str) -> None:
        """Once it is published, it is in the volumes at once, beside the key as it was."""
        created = world.create(namespace)
        folder = world.files(created)
        key = (folder / CREDENTIALS).read_bytes()
        config = world.control_plane.folder / "installation" / "platform.yaml"
        operator = Operator(world.control_plane.kubeconfig, config)
        operator.order(lambda orders: orders.rotate())
        until(lambda: roots(published(world)) == 2, timeout=60)
        until(lambda: roots((folder / BUNDLE).read_text()) == 2, timeout=AT_ONCE)
        assert (folder / CREDENTIALS).read_bytes() == key
