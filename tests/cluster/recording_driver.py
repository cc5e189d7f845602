# SPDX-License-Identifier: Apache-2.0
"""A CSI driver that writes down what the kubelet asks of it; a volume is an empty folder."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from webhook.node.protocol import csi_pb2 as csi
from webhook.node.protocol import csi_pb2_grpc, registration_pb2_grpc
from webhook.node.protocol import registration_pb2 as registration

if TYPE_CHECKING:
    from collections.abc import Iterator

_VERSION = "1.0.0"


class RecordingDriver(
    csi_pb2_grpc.IdentityServicer,
    csi_pb2_grpc.NodeServicer,
    registration_pb2_grpc.RegistrationServicer,
):
    """Both services and the registration.

    Args:
        name: The driver's name.
        node: What it calls its node.
        socket: Where it serves.

    Attributes:
        is_registered: Set once the kubelet has accepted it.
        published: All requests to publish.
        unpublished: All requests to unpublish.
    """

    def __init__(self, name: str, node: str, socket: Path) -> None:
        self._name, self._node, self._socket = name, node, socket
        self.is_registered = threading.Event()
        self.published: list[csi.NodePublishVolumeRequest] = []
        self.unpublished: list[csi.NodeUnpublishVolumeRequest] = []

    def GetInfo(self, request, context):  # noqa: N802
        return registration.PluginInfo(
            type="CSIPlugin",
            name=self._name,
            endpoint=str(self._socket),
            supported_versions=[_VERSION],
        )

    def NotifyRegistrationStatus(self, request, context):  # noqa: N802
        if request.plugin_registered:
            self.is_registered.set()
        return registration.RegistrationStatusResponse()

    def GetPluginInfo(self, request, context):  # noqa: N802
        return csi.GetPluginInfoResponse(name=self._name, vendor_version=_VERSION)

    def NodeGetInfo(self, request, context):  # noqa: N802
        return csi.NodeGetInfoResponse(node_id=self._node)

    def NodeGetCapabilities(self, request, context):  # noqa: N802
        kind = csi.NodeServiceCapability.RPC.VOLUME_MOUNT_GROUP
        rpc = csi.NodeServiceCapability.RPC(type=kind)
        return csi.NodeGetCapabilitiesResponse(capabilities=[csi.NodeServiceCapability(rpc=rpc)])

    def NodePublishVolume(self, request, context):  # noqa: N802
        Path(request.target_path).mkdir(exist_ok=True)
        self.published.append(request)
        return csi.NodePublishVolumeResponse()

    def NodeUnpublishVolume(self, request, context):  # noqa: N802
        if Path(request.target_path).exists():
            Path(request.target_path).rmdir()
        self.unpublished.append(request)
        return csi.NodeUnpublishVolumeResponse()


@contextmanager
def recording_driver(name: str, node: str, kubelet: Path) -> Iterator[RecordingDriver]:
    """Serve a driver where a kubelet looks for drivers."""
    socket = kubelet / "plugins" / f"{name}.sock"
    driver = RecordingDriver(name, node, socket)
    server = grpc.server(ThreadPoolExecutor(4))
    csi_pb2_grpc.add_IdentityServicer_to_server(driver, server)
    csi_pb2_grpc.add_NodeServicer_to_server(driver, server)
    registration_pb2_grpc.add_RegistrationServicer_to_server(driver, server)
    server.add_insecure_port(f"unix://{socket}")
    server.add_insecure_port(f"unix://{kubelet / 'plugins_registry' / f'{name}-reg.sock'}")
    server.start()
    try:
        yield driver
    finally:
        server.stop(grace=None).wait()
