# SPDX-License-Identifier: Apache-2.0
"""How the driver makes itself known to the kubelet, without a registrar beside it.

The kubelet watches its folder `plugins_registry`, calls each socket that appears there, and asks
what plugin that is and where; then it says whether it took it.

Rules:
    1. Registered is who serves: start this after the driver, and stop it before.
    2. A refusal is final for this process, and so is a socket that somebody removed: it ends, and
       the next one asks again.
    3. Beside the external node-driver-registrar this is not started at all: two would register the
       same name.

Spec: Kubernetes, `pluginregistration/v1`, "Registration of CSI drivers".
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from webhook.node.protocol import registration_pb2, registration_pb2_grpc
from webhook.node.unix_socket import SocketServer

if TYPE_CHECKING:
    from pathlib import Path

    from grpc.aio import ServicerContext

__all__ = ("Registration", "registration_socket")

_log = logging.getLogger(__name__)

_KIND: Final = "CSIPlugin"
_VERSIONS: Final = ("1.0.0",)  # The kubelet asks for 1.x, and takes the newest that it is given.
_GRACE_SECONDS: Final = 1.0


def registration_socket(registry: Path, name: str) -> Path:
    """The socket's path in the kubelet's folder, called as the registrar calls it."""
    return registry / f"{name}-reg.sock"


class Registration:
    """The service that the kubelet asks.

    Args:
        name: Of the CSIDriver object.
        endpoint: The driver's socket, by the path that the kubelet sees.
        socket: Where the kubelet looks; see `registration_socket`.
    """

    def __init__(self, name: str, endpoint: Path, socket: Path) -> None:
        self._socket = SocketServer(socket)
        self._service = _RegistrationService(name, endpoint)
        registration_pb2_grpc.add_RegistrationServicer_to_server(self._service, self._socket.server)

    @property
    def is_registered(self) -> bool:
        """Whether the kubelet has taken the driver."""
        return self._service.is_registered

    @property
    def has_failed(self) -> bool:
        """Whether the kubelet has refused the driver, or cannot find it: the process is to end."""
        return self._service.has_failed or self._socket.is_lost

    async def start(self) -> None:
        """Appear in the kubelet's folder.

        Raises:
            ConfigurationError: The socket's path cannot be one.
            OSError: It cannot be bound.
        """
        await self._socket.start()

    async def stop(self) -> None:
        """Vanish from there: the kubelet forgets the driver, and no volume of it."""
        bound = self._socket.forget()
        await self._socket.server.stop(_GRACE_SECONDS)
        if bound is not None and bound.is_there:
            bound.path.unlink(missing_ok=True)


class _RegistrationService(registration_pb2_grpc.RegistrationServicer):
    def __init__(self, name: str, endpoint: Path) -> None:
        self._answer = registration_pb2.PluginInfo(
            type=_KIND, name=name, endpoint=str(endpoint), supported_versions=_VERSIONS
        )
        self.is_registered = False
        self.has_failed = False

    async def GetInfo(  # noqa: N802 - the interface's name
        self, _request: registration_pb2.InfoRequest, _context: ServicerContext[Any, Any]
    ) -> registration_pb2.PluginInfo:
        return self._answer

    async def NotifyRegistrationStatus(  # noqa: N802
        self, request: registration_pb2.RegistrationStatus, _context: ServicerContext[Any, Any]
    ) -> registration_pb2.RegistrationStatusResponse:
        self.is_registered = request.plugin_registered
        self.has_failed = not request.plugin_registered
        if self.has_failed:
            _log.error("the kubelet refuses the driver: %s", request.error)
        else:
            _log.info("the kubelet has registered the driver")
        return registration_pb2.RegistrationStatusResponse()
