# SPDX-License-Identifier: Apache-2.0
"""Requests as the kubelet makes them, to be spoilt by tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from webhook.node.protocol import csi_pb2
from webhook.node.publication import PodReference, Publication

if TYPE_CHECKING:
    from pathlib import Path

ATTRIBUTE = "csi.storage.k8s.io/"
TOKENS = f"{ATTRIBUTE}serviceAccount.tokens"
POD = PodReference("shop", "web-0", "8f14e45f-ceea-4e7a-9c1b-0d3a5b1c2d3e", "web")
TOKEN = "the-token-of-web-0"


def target(kubelet: Path, volume_id: str = "csi-1") -> Path:
    """Where the kubelet has a volume of the pod; its parent is made, as by the kubelet."""
    parent = kubelet / "pods" / POD.uid / "volumes" / "kubernetes.io~csi" / volume_id
    parent.mkdir(parents=True, exist_ok=True)
    return parent / "mount"


def publication(kubelet: Path, volume_id: str = "csi-1", group: int | None = None) -> Publication:
    """What `publish_request` asks for."""
    return Publication(volume_id, target(kubelet, volume_id), POD, group)


def publish_request(
    kubelet: Path, volume_id: str = "csi-1", group: int | None = None
) -> csi_pb2.NodePublishVolumeRequest:
    """A complete request."""
    capability = csi_pb2.VolumeCapability
    return csi_pb2.NodePublishVolumeRequest(
        volume_id=volume_id,
        target_path=str(target(kubelet, volume_id)),
        readonly=True,
        volume_capability=capability(
            mount=capability.MountVolume(volume_mount_group="" if group is None else str(group)),
            access_mode=capability.AccessMode(mode="SINGLE_NODE_WRITER"),
        ),
        volume_context={
            f"{ATTRIBUTE}ephemeral": "true",
            f"{ATTRIBUTE}pod.namespace": POD.namespace,
            f"{ATTRIBUTE}pod.name": POD.name,
            f"{ATTRIBUTE}pod.uid": POD.uid,
            f"{ATTRIBUTE}serviceAccount.name": POD.service_account,
            TOKENS: tokens(),
        },
    )


def tokens(token: str = TOKEN, audience: str = "") -> str:
    """The attribute with the pod's tokens: of one audience, as CSIDriver asks."""
    return json.dumps({audience: {"token": token, "expirationTimestamp": "2026-11-25T20:10:00Z"}})
