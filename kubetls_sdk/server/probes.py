# SPDX-License-Identifier: Apache-2.0
"""A listener of its own for health probes, which cannot present a client certificate.

It shows whether we are alive and ready, and nothing else: it never calls the application.

Rules:
    1. GET and HEAD of exactly the named paths; everything else is 404 or 405, with no body.
    2. One request for each connection; a bound on connections, handshakes, bytes and seconds.
       Beyond it the oldest goes: whoever stalls cannot lock the kubelet out, which would restart
       the pod.
    3. Nothing about identities, versions or reasons is in an answer.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from kubetls_sdk import metrics
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server._one_answer import Connections, OneAnswer
from kubetls_sdk.server.bind import bind

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from kubetls_sdk.server._handshakes import Handshakes
    from kubetls_sdk.source import Source

__all__ = ("Probes",)

_MAX_CONNECTIONS = 64
_SECONDS = 5.0
_PHRASES = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


@dataclass(kw_only=True)
class Probes:
    """The probe listener.

    Attributes:
        port: Its own; 0 takes a free one.
        host: Where to listen.
        ready_paths: Answer 200 while requests are served and our SVID is valid, else 503.
        live_paths: Answer 200 while the process answers at all.
        metrics_path: Shows the metrics of this package to Prometheus; enables them.
        tls: TLS with our SVID instead of plain HTTP; a client needs no certificate.

    Raises:
        ConfigurationError: A path is not absolute, or one means two things.
    """

    port: int
    host: str = "0.0.0.0"  # noqa: S104 - kubelets come from outside the pod
    ready_paths: tuple[str, ...] = ("/readyz", "/healthz")
    live_paths: tuple[str, ...] = ("/livez",)
    metrics_path: str | None = None
    tls: bool = False
    _socket: socket.socket | None = field(default=None, init=False, repr=False)
    _server: asyncio.Server | None = field(default=None, init=False, repr=False)
    _connections: Connections = field(init=False, repr=False, compare=False)
    _handshakes: Handshakes | None = field(default=None, init=False, repr=False)
    _is_ready: Callable[[], bool] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        paths = [*self.ready_paths, *self.live_paths]
        if self.metrics_path is not None:
            paths.append(self.metrics_path)
        if not paths or not all(path.startswith("/") and path.isascii() for path in paths):
            raise ConfigurationError(f"expected paths that start with '/', got {paths!r}")
        if len(set(paths)) < len(paths):
            raise ConfigurationError(f"expected each path once, got {paths!r}")
        self._connections = Connections(_MAX_CONNECTIONS, _SECONDS, self.response)

    @property
    def bound_port(self) -> int | None:
        """The port that was bound; None before `bind`."""
        port: int | None = self._socket.getsockname()[1] if self._socket is not None else None
        return port

    def bind(self) -> None:
        """Take the port.

        Raises:
            ConfigurationError: It is in use.
        """
        if self._socket is None:
            self._socket = bind(self.host, self.port)

    async def start(self, source: Source, is_ready: Callable[[], bool]) -> None:
        """Answer probes; several processes may share the port."""
        self.bind()
        self._is_ready = is_ready
        if self.metrics_path is not None:
            metrics.enable()
        self._server = await asyncio.get_running_loop().create_server(
            self._gates(source) if self.tls else lambda: OneAnswer(self._connections),
            sock=cast("socket.socket", self._socket),
        )

    async def stop(self) -> None:
        """Close the listener."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._handshakes is not None:
            self._handshakes.shutdown()
        self._connections.abort()

    def _gates(self, source: Source) -> Callable[[], asyncio.Protocol]:
        """Make protocols with TLS; what that takes is loaded by nobody who speaks plain HTTP."""
        from uvicorn.server import ServerState

        from kubetls_sdk._context import server_context
        from kubetls_sdk.server._gate import Gate
        from kubetls_sdk.server._handshakes import Handshakes

        context, state = server_context(source, optional=True), ServerState()
        self._handshakes = handshakes = Handshakes(_MAX_CONNECTIONS)
        return lambda: Gate(
            context,
            handshakes=handshakes,
            server_state=state,
            timeout=_SECONDS,
            enter=lambda _connection, _transport, _address: OneAnswer(self._connections),
        )

    def response(self, head: bytes) -> bytes:
        """Answer the head of a request.

        Spec: RFC 9112 §3.
        """
        parts = head.split(b"\r\n", 1)[0].split(b" ")
        if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
            return _message(400)
        method, target = parts[0], parts[1].partition(b"?")[0].decode("latin-1")
        if target not in (*self.ready_paths, *self.live_paths, self.metrics_path):
            return _message(404)
        if method not in (b"GET", b"HEAD"):
            return _message(405, "allow: GET, HEAD\r\n")
        if target == self.metrics_path:
            body = _metrics()
            head = _message(200, "content-type: text/plain; version=0.0.4\r\n", len(body))
            return head + body if method == b"GET" else head
        is_ready = target in self.live_paths or (self._is_ready is not None and self._is_ready())
        return _message(200 if is_ready else 503)


def _metrics() -> bytes:
    """The metrics of this process, or of all workers where prometheus_client is told to share."""
    from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return bytes(generate_latest(REGISTRY))
    registry = CollectorRegistry()
    collector: Any = MultiProcessCollector
    collector(registry)
    return bytes(generate_latest(registry))


def _message(status: int, fields: str = "", length: int = 0) -> bytes:
    return (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\n{fields}"
        f"cache-control: no-store\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    ).encode("ascii")
