# SPDX-License-Identifier: Apache-2.0
"""Stands between csi-sanity and the driver, and adds what neither has: the kubelet's part.

Rules:
    1. What the driver answers is passed on as it is, and so are its errors.
    2. To a request to publish it adds what the kubelet adds, and nothing in place of what is there:
       the pod, its token, and that the volume is read-only.
    3. csi-sanity wants volumes to be created before they are published; the driver's are not. So it
       is told of a Controller service, which hands out names.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import grpc

from webhook.node.protocol import csi_pb2 as csi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_SECONDS = 60.0
_IDENTITY, _CONTROLLER, _NODE = (f"/csi.v1.{each}/" for each in ("Identity", "Controller", "Node"))
_NOTHING = b""
# PluginCapability 1 { Service 1 { type 1: CONTROLLER_SERVICE = 1 } }, on the wire.
_HAS_CONTROLLER = b"\x0a\x04\x0a\x02\x08\x01"


class StandIn(grpc.GenericRpcHandler):
    """Answers csi-sanity.

    Args:
        driver: The driver's socket.
        attributes: What the kubelet would add to a volume of the pod, asked each time.
    """

    def __init__(self, driver: Path, attributes: Callable[[], Mapping[str, str]]) -> None:
        self._channel = grpc.insecure_channel(f"unix://{driver}")
        self._attributes = attributes
        self._numbers = itertools.count(1)
        self._own: Mapping[str, Callable[[], bytes]] = {
            f"{_CONTROLLER}ControllerGetCapabilities": lambda: _NOTHING,
            f"{_CONTROLLER}CreateVolume": self._created,
            f"{_CONTROLLER}DeleteVolume": lambda: _NOTHING,
        }

    def service(self, details):
        """Answer any method, bytes for bytes."""
        return grpc.unary_unary_rpc_method_handler(partial(self._answer, details.method))

    def _answer(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        if method in self._own:
            return self._own[method]()
        if method == f"{_NODE}NodePublishVolume":
            request = self._completed(request)
        more = _HAS_CONTROLLER if method == f"{_IDENTITY}GetPluginCapabilities" else _NOTHING
        try:
            return self._channel.unary_unary(method)(request, timeout=_SECONDS) + more
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())

    def _completed(self, content: bytes) -> bytes:
        request = csi.NodePublishVolumeRequest.FromString(content)
        request.readonly = True
        for key, value in self._attributes().items():
            request.volume_context[key] = value
        return request.SerializeToString()

    def _created(self) -> bytes:
        """CreateVolumeResponse 1 { Volume 2: volume_id }, on the wire."""
        name = b"csi-sanity-%d" % next(self._numbers)
        volume = b"\x12" + bytes([len(name)]) + name
        return b"\x0a" + bytes([len(volume)]) + volume


@contextmanager
def stand_in(
    driver: Path, socket: Path, attributes: Callable[[], Mapping[str, str]]
) -> Iterator[None]:
    """Serve it."""
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([StandIn(driver, attributes)])
    server.add_insecure_port(f"unix://{socket}")
    server.start()
    try:
        yield
    finally:
        server.stop(grace=None).wait()
