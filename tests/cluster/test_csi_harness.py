# SPDX-License-Identifier: Apache-2.0
"""What a hollow kubelet asks of a CSI driver: what the tests of our own driver stand on."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster import ControlPlane, HollowNode
from tests.cluster.pods import pod
from tests.cluster.recording_driver import RecordingDriver, recording_driver
from tests.waiting import until

DRIVER = "recording.csi.example"
DRIVERS = "/apis/storage.k8s.io/v1/csidrivers"
NODE = "node-1"
PREFIX = "csi.storage.k8s.io"


@pytest.fixture(scope="module")
def driver(control_plane: ControlPlane, nodes: dict[str, HollowNode]) -> Iterator[RecordingDriver]:
    """The driver on the first node, announced as ours is."""
    spec = {
        "attachRequired": False,
        "podInfoOnMount": True,
        "requiresRepublish": True,
        "volumeLifecycleModes": ["Ephemeral"],
        "tokenRequests": [{"audience": "", "expirationSeconds": 600}],
    }
    control_plane.api.post(DRIVERS, {"metadata": {"name": DRIVER}, "spec": spec})
    with recording_driver(DRIVER, NODE, nodes[NODE].root) as running:
        assert running.is_registered.wait(30)
        yield running
    control_plane.api.delete(f"{DRIVERS}/{DRIVER}")


@pytest.fixture
def created(control_plane: ControlPlane, namespace: str) -> dict[str, Any]:
    """A pod with a volume of the driver, on the first node."""
    volume = {"name": "identity", "csi": {"driver": DRIVER, "readOnly": True}}
    body = pod("web", volumes=[volume], nodeName=NODE, securityContext={"fsGroup": 2000})
    return control_plane.api.post(f"/api/v1/namespaces/{namespace}/pods", body)


def requests(driver: RecordingDriver, created: dict[str, Any]) -> list[Any]:
    """What was asked for a pod's volume so far."""
    uid = created["metadata"]["uid"]
    return [each for each in driver.published if each.volume_context[f"{PREFIX}/pod.uid"] == uid]


def claims(request: Any) -> dict[str, Any]:
    """The claims of the token in a request, with the audience that it is filed under."""
    tokens = json.loads(request.volume_context[f"{PREFIX}/serviceAccount.tokens"])
    payload = tokens[""]["token"].split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=="))


class TestKubelet:
    def test_registers_the_driver(
        self, control_plane: ControlPlane, driver: RecordingDriver
    ) -> None:
        """The kubelet finds the driver's socket, and says at the API server that it has it."""
        found = control_plane.api.get(f"/apis/storage.k8s.io/v1/csinodes/{NODE}")
        assert DRIVER in [each["name"] for each in found["spec"]["drivers"]]

    def test_publishes(
        self,
        driver: RecordingDriver,
        created: dict[str, Any],
        namespace: str,
        nodes: dict[str, HollowNode],
    ) -> None:
        """The request has the pod, its group, its target, and a token bound to the pod."""
        first = until(lambda: requests(driver, created), timeout=30)[0]
        uid = created["metadata"]["uid"]
        assert first.target_path == str(nodes[NODE].volume_of(uid, "identity", kind="csi"))
        assert first.readonly
        assert first.volume_capability.mount.volume_mount_group == "2000"
        context = {
            key.removeprefix(f"{PREFIX}/"): each for key, each in first.volume_context.items()
        }
        assert (
            context
            | {
                "ephemeral": "true",
                "pod.name": "web",
                "pod.namespace": namespace,
                "serviceAccount.name": "default",
            }
            == context
        )
        assert claims(first)["kubernetes.io"]["pod"] == {"name": "web", "uid": uid}

    def test_publishes_again(self, driver: RecordingDriver, created: dict[str, Any]) -> None:
        """The kubelet comes back for a volume that is there, with a token that is valid."""
        until(lambda: len(requests(driver, created)) > 1, timeout=60)

    def test_unpublishes(
        self,
        control_plane: ControlPlane,
        driver: RecordingDriver,
        created: dict[str, Any],
        namespace: str,
    ) -> None:
        """The end of a pod is the end of its volume."""
        first = until(lambda: requests(driver, created), timeout=30)[0]
        control_plane.api.request(
            "DELETE", f"/api/v1/namespaces/{namespace}/pods/web", {"gracePeriodSeconds": 0}
        )
        until(
            lambda: first.volume_id in [each.volume_id for each in driver.unpublished], timeout=60
        )
