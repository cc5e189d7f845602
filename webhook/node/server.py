# SPDX-License-Identifier: Apache-2.0
"""The driver as the kubelet sees it: CSI's Identity and Node services on a UNIX socket.

Rules:
    1. Only what the kubelet calls for inline volumes is there; all else is UNIMPLEMENTED.
    2. Nothing of a request is logged: it holds the pod's token.
    3. A volume that is published stays so, even when its next request cannot be read.

Spec: CSI 1.13, Identity and Node Service RPC.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.wrappers_pb2 import BoolValue

from webhook.node.operations import Operations
from webhook.node.protocol import csi_pb2, csi_pb2_grpc
from webhook.node.publication import (
    InvalidPublication,
    Publication,
    parse_target,
    parse_token,
    parse_volume_id,
)
from webhook.node.status import refusals
from webhook.node.unix_socket import SocketServer

if TYPE_CHECKING:
    from pathlib import Path

    from grpc.aio import ServicerContext

    from webhook.node.operations import Volumes

__all__ = ("DriverSettings", "Server")

_log = logging.getLogger(__name__)

_GRACE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class DriverSettings:
    """Who the driver is, and where.

    Attributes:
        name: Of the CSIDriver object.
        version: Ours.
        node_name: Of the node, as the kubelet calls it.
        socket: Where the kubelet reaches the driver.
        kubelet_folder: The folder in which targets are.
        audience: Of the pods' tokens; empty is the API server's own.
    """

    name: str
    version: str
    node_name: str
    socket: Path
    kubelet_folder: Path
    audience: str = ""


class Server:
    """Both services.

    Args:
        volumes: Who keeps the volumes.
        settings: Who the driver is, and where.
        operations: What is under way.
    """

    def __init__(
        self, volumes: Volumes, settings: DriverSettings, operations: Operations | None = None
    ) -> None:
        self._operations = operations if operations is not None else Operations(volumes)
        self._path = settings.socket
        self._socket = SocketServer(settings.socket)
        server = self._socket.server
        csi_pb2_grpc.add_IdentityServicer_to_server(_IdentityService(volumes, settings), server)
        csi_pb2_grpc.add_NodeServicer_to_server(
            _NodeService(volumes, settings, self._operations), server
        )

    @property
    def has_failed(self) -> bool:
        """Whether somebody has removed or replaced the socket: the process is to begin anew."""
        return self._socket.is_lost

    async def start(self) -> None:
        """Listen and serve; one start for each object.

        Raises:
            ConfigurationError: The socket's path cannot be one.
            OSError: It cannot be bound.
        """
        await self._socket.start()
        _log.info("the kubelet is served at %s", self._path)

    async def stop(self) -> None:
        """Take no more calls, cancel what is under way, and wait until that is cleaned up."""
        self._socket.forget()
        await self._operations.stop()
        await self._socket.server.stop(_GRACE_SECONDS)
        await self._operations.stop()


class _IdentityService(csi_pb2_grpc.IdentityServicer):
    def __init__(self, volumes: Volumes, settings: DriverSettings) -> None:
        self._volumes = volumes
        self._settings = settings

    async def GetPluginInfo(  # noqa: N802 - the interface's name
        self, _request: csi_pb2.GetPluginInfoRequest, _context: ServicerContext[Any, Any]
    ) -> csi_pb2.GetPluginInfoResponse:
        return csi_pb2.GetPluginInfoResponse(
            name=self._settings.name, vendor_version=self._settings.version
        )

    async def GetPluginCapabilities(  # noqa: N802
        self, _request: csi_pb2.GetPluginCapabilitiesRequest, _context: ServicerContext[Any, Any]
    ) -> csi_pb2.GetPluginCapabilitiesResponse:
        return csi_pb2.GetPluginCapabilitiesResponse()

    async def Probe(  # noqa: N802
        self, _request: csi_pb2.ProbeRequest, _context: ServicerContext[Any, Any]
    ) -> csi_pb2.ProbeResponse:
        return csi_pb2.ProbeResponse(ready=BoolValue(value=self._volumes.is_ready))


class _NodeService(csi_pb2_grpc.NodeServicer):
    def __init__(self, volumes: Volumes, settings: DriverSettings, operations: Operations) -> None:
        self._volumes = volumes
        self._settings = settings
        self._operations = operations

    async def NodeGetInfo(  # noqa: N802
        self, _request: csi_pb2.NodeGetInfoRequest, _context: ServicerContext[Any, Any]
    ) -> csi_pb2.NodeGetInfoResponse:
        return csi_pb2.NodeGetInfoResponse(node_id=self._settings.node_name)

    async def NodeGetCapabilities(  # noqa: N802
        self, _request: csi_pb2.NodeGetCapabilitiesRequest, _context: ServicerContext[Any, Any]
    ) -> csi_pb2.NodeGetCapabilitiesResponse:
        rpc = csi_pb2.NodeServiceCapability.RPC
        group = csi_pb2.NodeServiceCapability(rpc=rpc(type=rpc.VOLUME_MOUNT_GROUP))
        return csi_pb2.NodeGetCapabilitiesResponse(capabilities=[group])

    async def NodePublishVolume(  # noqa: N802
        self, request: csi_pb2.NodePublishVolumeRequest, context: ServicerContext[Any, Any]
    ) -> csi_pb2.NodePublishVolumeResponse:
        async with refusals(context):
            try:
                publication = Publication.parse(request, self._settings.kubelet_folder)
                token = parse_token(request, self._settings.audience)
            except InvalidPublication as error:
                self._require_published(request, error)
            else:
                await self._operations.publish(publication, token)
        return csi_pb2.NodePublishVolumeResponse()

    async def NodeUnpublishVolume(  # noqa: N802
        self, request: csi_pb2.NodeUnpublishVolumeRequest, context: ServicerContext[Any, Any]
    ) -> csi_pb2.NodeUnpublishVolumeResponse:
        async with refusals(context):
            volume_id = parse_volume_id(request.volume_id)
            target = parse_target(request.target_path, self._settings.kubelet_folder)
            await self._operations.unpublish(volume_id, target)
        return csi_pb2.NodeUnpublishVolumeResponse()

    def _require_published(
        self, request: csi_pb2.NodePublishVolumeRequest, error: InvalidPublication
    ) -> None:
        """Let a repetition pass that has lost something, such as the token, on its way."""
        known = self._volumes.published(request.volume_id)
        if known is None or str(known.target) != request.target_path.rstrip("/"):
            raise error
        _log.warning(
            "pod %s keeps its volume, which the kubelet repeats wrongly: %s", known.pod, error
        )
