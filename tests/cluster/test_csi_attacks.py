# SPDX-License-Identifier: Apache-2.0
"""What the driver refuses, and what it survives: requests over its own socket, on the real cluster.

Rules:
    1. Whoever reaches the socket is root on the node; still a mistake of the kubelet, or of who has
       tricked it, gives no pod another one's identity and leaves nothing behind.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.cluster.account import Account
from tests.cluster.csi_world import NODES, CsiWorld, csi_world
from tests.waiting import until
from webhook.node.protocol import csi_pb2 as csi

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(150)

NODE = NODES[0]
AUDIENCE = "csi.kubetls.example"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
_numbers = itertools.count(1)


@pytest.fixture(
    scope="module", params=["", AUDIENCE], ids=["api-server's-audience", "own-audience"]
)
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CsiWorld]:
    """A cluster with one node, for either audience of the pods' tokens."""
    folder = tmp_path_factory.mktemp("attacks")
    with csi_world(folder, audience=request.param, nodes=(NODE,)) as running:
        yield running


@pytest.fixture
def namespace(world: CsiWorld) -> str:
    """A namespace of the test's own."""
    return world.namespace(f"team-{next(_numbers)}")


@pytest.fixture
def mine(world: CsiWorld, namespace: str) -> dict[str, Any]:
    """A pod whose volume is there."""
    created = world.create(namespace, "mine")
    world.files(created)
    return created


@contextmanager
def refused(world: CsiWorld, status: grpc.StatusCode, told: str) -> Iterator[None]:
    """What is done inside is refused, with a reason, and nothing of it stays on the node."""
    before = world.homes(NODE)
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert caught.value.code() is status, caught.value.details()
    assert told in caught.value.details()
    assert world.homes(NODE) == before


def another(world: CsiWorld, created: dict[str, Any], **changes: Any) -> None:
    """Ask for a second volume of a pod, which the kubelet never would."""
    place = world.nodes[NODE].target_of(created["metadata"]["uid"], "second")
    place.parent.mkdir(parents=True, exist_ok=True)
    world.publish(created, **{"volume_id": "second", "target_path": str(place), **changes})


def folder_of(world: CsiWorld, created: dict[str, Any]) -> Path:
    """The kubelet's folder of a pod."""
    return world.nodes[NODE].root / "pods" / created["metadata"]["uid"]


def request_for(name: str) -> bytes:
    """A request with a DNS name in it, PEM."""
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(names, False)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(Encoding.PEM)


class TestToken:
    def test_own(self, world: CsiWorld, mine: dict[str, Any]) -> None:
        """With the pod's own token a second volume is published: what follows fails without it."""
        another(world, mine)
        place = world.nodes[NODE].target_of(mine["metadata"]["uid"], "second")
        assert (world.nodes[NODE].as_seen(place) / "credential-bundle.pem").exists()
        unpublish(world, "second", str(place))

    def test_of_another_audience(self, world: CsiWorld, mine: dict[str, Any]) -> None:
        """A token for somebody else is not even tried: it is under another name."""
        with refused(world, grpc.StatusCode.INVALID_ARGUMENT, "audience"):
            another(world, mine, audience="vault.example")

    def test_of_another_audience_in_disguise(self, world: CsiWorld, mine: dict[str, Any]) -> None:
        """Under our name, the API server refuses it."""
        token = world.token_of(mine, audience="vault.example")
        with refused(world, grpc.StatusCode.UNAVAILABLE, "token"):
            another(world, mine, token=token)

    def test_of_another_pod(self, world: CsiWorld, namespace: str, mine: dict[str, Any]) -> None:
        """The API server says whose token it is, and that is another pod."""
        other = world.create(namespace, "other")
        world.files(other)
        token = world.token_of(other)
        with refused(world, grpc.StatusCode.FAILED_PRECONDITION, "got another's"):
            another(world, mine, token=token)

    def test_of_no_pod(self, world: CsiWorld, mine: dict[str, Any]) -> None:
        """An account's token that is bound to no pod may ask for nothing."""
        metadata = mine["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/default/token"
        wanted = {"spec": {"audiences": [world.audience] if world.audience else []}}
        token = world.api.post(path, wanted)["status"]["token"]
        with refused(world, grpc.StatusCode.FAILED_PRECONDITION, "bound to a pod"):
            another(world, mine, token=token)

    def test_missing(self, world: CsiWorld, mine: dict[str, Any]) -> None:
        """Without a token nothing is asked for."""
        context = world.attributes(mine, "")
        with refused(world, grpc.StatusCode.INVALID_ARGUMENT, "token"):
            another(world, mine, volume_context=context)


class TestNames:
    def test_of_another_pod(self, world: CsiWorld, namespace: str, mine: dict[str, Any]) -> None:
        """A pod's token is good for its own names only: what is asked for is not what is signed."""
        spec = {
            "signerName": "kubetls.gauntletwizard.net/workload",
            "request": base64.b64encode(request_for(f"other.{namespace}.svc")).decode(),
            "usages": ["digital signature", "server auth", "client auth"],
        }
        name = f"attack-{namespace}"
        account = Account(world.control_plane, namespace, "default", pod=mine)
        account.post(REQUESTS, {"metadata": {"name": name}, "spec": spec})

        def verdict() -> list[str]:
            conditions = world.api.get(f"{REQUESTS}/{name}")["status"].get("conditions", [])
            return [each["type"] for each in conditions]

        assert until(verdict, timeout=30) == ["Denied"]

    def test_of_another_namespace(self, world: CsiWorld, mine: dict[str, Any]) -> None:
        """A pod that is said to be in another namespace is not found there."""
        context = world.attributes(mine, world.token_of(mine))
        context["csi.storage.k8s.io/pod.namespace"] = "kube-system"
        with refused(world, grpc.StatusCode.FAILED_PRECONDITION, "gone"):
            another(world, mine, volume_context=context)

    def test_mode_that_is_not_allowed(self, world: CsiWorld) -> None:
        """A namespace without the mode gets nothing by a volume that is written by hand."""
        name = world.namespace("native")
        source = {"driver": "csi.kubetls.gauntletwizard.net", "readOnly": True}
        created = world.create(name, volumes=[{"name": "by-hand", "csi": source}])
        with refused(world, grpc.StatusCode.FAILED_PRECONDITION, "may not have mode 'csi'"):
            another(world, created)
        world.api.delete(f"/api/v1/namespaces/{name}")


class TestTarget:
    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("{pods}/../../../etc/cron.d/mount", id="dots"),
            pytest.param("/etc/kubetls/mount", id="elsewhere"),
            pytest.param("{pods}/./mount", id="dot"),
            pytest.param("mount", id="relative"),
        ],
    )
    def test_outside(self, world: CsiWorld, mine: dict[str, Any], text: str) -> None:
        """Only the kubelet's folder has targets, by their plain names."""
        target = text.format(pods=world.nodes[NODE].root / "pods")
        with refused(world, grpc.StatusCode.INVALID_ARGUMENT, "target_path"):
            another(world, mine, target_path=target)

    def test_of_another_pod(self, world: CsiWorld, namespace: str, mine: dict[str, Any]) -> None:
        """What is a pod's by all proofs is not shown to another pod, nor ends what that has."""
        other = world.create(namespace, "other")
        held = (world.files(other) / "credential-bundle.pem").read_bytes()
        place = str(world.nodes[NODE].target_of(other["metadata"]["uid"], "kubetls"))
        with refused(world, grpc.StatusCode.INVALID_ARGUMENT, "target_path"):
            another(world, mine, target_path=place)
        with refused(world, grpc.StatusCode.FAILED_PRECONDITION, "the place of volume"):
            unpublish(world, "second", place)
        assert (world.files(other) / "credential-bundle.pem").read_bytes() == held

    def test_symlink(self, world: CsiWorld, mine: dict[str, Any], tmp_path: Any) -> None:
        """A folder on the way that is a symlink leads nowhere."""
        link = folder_of(world, mine) / f"link-{next(_numbers)}"
        link.symlink_to(tmp_path)
        with refused(world, grpc.StatusCode.FAILED_PRECONDITION, "symlink"):
            another(world, mine, target_path=str(link / "mount"))
        assert list(tmp_path.iterdir()) == []

    def test_no_folder(self, world: CsiWorld, mine: dict[str, Any]) -> None:
        """Where the kubelet made no folder, a publication fails half-way, and is undone."""
        target = folder_of(world, mine) / "nobody" / "mount"
        with refused(world, grpc.StatusCode.FAILED_PRECONDITION, "expected the kubelet to make"):
            another(world, mine, target_path=str(target))

    def test_somebody_elses_file(self, world: CsiWorld, mine: dict[str, Any]) -> None:
        """What is there already is left as it is."""
        target = folder_of(world, mine) / f"file-{next(_numbers)}"
        target.write_text("mine")
        with refused(world, grpc.StatusCode.FAILED_PRECONDITION, "expected a folder"):
            another(world, mine, target_path=str(target))
        assert target.read_text() == "mine"

    def test_writable(self, world: CsiWorld, mine: dict[str, Any]) -> None:
        """A volume that the pod could write to is none of ours."""
        with refused(world, grpc.StatusCode.INVALID_ARGUMENT, "readonly"):
            another(world, mine, readonly=False)


class TestPod:
    def test_vanished(self, world: CsiWorld, namespace: str) -> None:
        """Of a pod that is gone nothing is published, though its token is still valid."""
        created = world.create(namespace, "gone")
        token = world.token_of(created)
        world.files(created)
        world.delete(created)
        path = f"/api/v1/namespaces/{namespace}/pods/gone"
        until(lambda: not world.api.exists(path), timeout=60)
        with refused(world, grpc.StatusCode.FAILED_PRECONDITION, "gone"):
            another(world, created, token=token)

    def test_namesake(self, world: CsiWorld, namespace: str) -> None:
        """Nor for its successor of the same name, with the predecessor's UID and token."""
        first = world.create(namespace, "web")
        token = world.token_of(first)
        world.files(first)
        world.delete(first)
        path = f"/api/v1/namespaces/{namespace}/pods/web"
        until(lambda: not world.api.exists(path), timeout=60)
        second = world.create(namespace, "web")
        world.files(second)
        with refused(world, grpc.StatusCode.FAILED_PRECONDITION, "gone"):
            another(world, first, token=token)
        with refused(world, grpc.StatusCode.UNAVAILABLE, "token"):
            another(world, second, token=token)


class TestRepetition:
    def test_flood(self, world: CsiWorld, mine: dict[str, Any]) -> None:
        """Published again and again at once, a volume stays: nothing fails, nobody asks."""
        folder, asked = world.files(mine), len(world.requests())
        held = (folder / "..data").readlink()
        token = world.token_of(mine)
        with ThreadPoolExecutor(16) as pool:
            again = [pool.submit(world.publish, mine, token=token) for _ in range(400)]
        assert [each.exception() for each in again if each.exception()] == []
        assert ((folder / "..data").readlink(), len(world.requests())) == (held, asked)

    def test_worse_repetition(self, world: CsiWorld, mine: dict[str, Any]) -> None:
        """What is published stays, whatever the kubelet forgets to say the next time."""
        world.publish(mine, volume_context={})
        assert (world.files(mine) / "credential-bundle.pem").exists()

    def test_unpublished_twice(self, world: CsiWorld, mine: dict[str, Any]) -> None:
        """The second time there is nothing to do; a volume that nobody knows is none, too."""
        place = world.nodes[NODE].target_of(mine["metadata"]["uid"], "second")
        another(world, mine)
        for _ in range(2):
            unpublish(world, "second", str(place))
        assert not place.exists()
        unpublish(world, "never", str(place))

    def test_elsewhere(self, world: CsiWorld, mine: dict[str, Any]) -> None:
        """A volume is at one place; it does not move, and nobody else can take it over."""
        place = world.nodes[NODE].target_of(mine["metadata"]["uid"], "third")
        place.parent.mkdir(parents=True)
        with refused(world, grpc.StatusCode.FAILED_PRECONDITION, "is published"):
            world.publish(mine, target_path=str(place))


def unpublish(world: CsiWorld, volume: str, target: str) -> None:
    request = csi.NodeUnpublishVolumeRequest(volume_id=volume, target_path=target)
    world.driver(NODE).NodeUnpublishVolume(request, timeout=60)
