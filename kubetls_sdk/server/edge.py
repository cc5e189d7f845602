# SPDX-License-Identifier: Apache-2.0
"""A second listener with an ordinary public certificate, for the service at the edge.

The same application and the same policy; every caller is anonymous. Nothing of the mesh is shown:
not our SVID, not our bundles, and no client certificate is asked for.

Rules:
    1. What the policy does not allow to anonymous callers is denied.
    2. The handshake goes through the same gate, with the same bounds, as on the inner listener.
    3. Header fields that tell an identity go neither in nor out; no proxy is believed here.
"""

from __future__ import annotations

import asyncio
import copy
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server._gate import Gate
from kubetls_sdk.server._handshakes import Handshakes
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.bind import bind
from kubetls_sdk.server.connection import PeerConnection, tls_extension, with_connection
from kubetls_sdk.server.discretion import discreet
from kubetls_sdk.server.public_certificate import PublicCertificate
from kubetls_sdk.server.refusal_log import log

if TYPE_CHECKING:
    import socket

    from uvicorn.server import ServerState

    from kubetls_sdk.server._listener import Listener
    from kubetls_sdk.server.uvicorn import Config

__all__ = ("Edge",)


@dataclass(kw_only=True)
class Edge:
    """The public listener.

    Attributes:
        port: Its own; 0 takes a free one.
        certificate: Path of the PEM chain, leaf first.
        key: Path of the PEM key, not encrypted.
        host: Where to listen.
        poll_seconds: How often the files are looked at.

    Raises:
        ConfigurationError: `poll_seconds` is out of range.
    """

    port: int
    certificate: str
    key: str
    host: str = "0.0.0.0"  # noqa: S104 - it is the public listener
    poll_seconds: float = 5.0
    _socket: socket.socket | None = field(default=None, init=False, repr=False)
    _running: _RunningEdge | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.poll_seconds <= 0:
            raise ConfigurationError(f"expected poll_seconds > 0, got {self.poll_seconds!r}")

    @property
    def bound_port(self) -> int | None:
        """The port that was bound; None before `bind`."""
        port: int | None = self._socket.getsockname()[1] if self._socket is not None else None
        return port

    def bind(self) -> None:
        """Try the certificate and take the port.

        Raises:
            ConfigurationError: The files cannot be used, or the port is in use.
        """
        PublicCertificate(self.certificate, self.key, alpn_protocols=["http/1.1"])
        if self._socket is None:
            self._socket = bind(self.host, self.port)
            host = f"[{self.host}]" if ":" in self.host else self.host
            log.info("public listener on https://%s:%d", host, self.bound_port)

    async def start(self, config: Config, app: Any, policy: Any, state: dict[str, Any]) -> None:
        """Serve the application to the public; several processes may share the port."""
        if self._socket is None:
            self.bind()
        listener = config.tls.open()
        certificate = PublicCertificate(
            self.certificate, self.key, alpn_protocols=listener.alpn_protocols
        )
        entrance = _Entrance(listener, certificate)
        bound = copy.copy(config)
        bound.http_protocol_class = cast("Any", entrance)
        bound.loaded_app = KubeTLSMiddleware(
            discreet(app), policy=policy, optional=True, users=config.users.opened
        )
        self._running = _RunningEdge(bound, certificate, state)
        await self._running.start(cast("socket.socket", self._socket), self.poll_seconds)

    async def stop(self) -> None:
        """Stop serving, gracefully."""
        if self._running is not None:
            await self._running.stop()
            self._running = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Entrance:
    """Makes the protocol of each connection; takes the place of uvicorn's protocol class."""

    def __init__(self, listener: Listener, certificate: PublicCertificate) -> None:
        self._listener = listener
        self._certificate = certificate
        self._handshakes = Handshakes(listener.settings.max_handshakes)

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Protocol:
        listener = self._listener

        def enter(
            connection: ssl.SSLObject, transport: asyncio.Transport, address: str
        ) -> asyncio.Protocol:
            """Begin HTTP once the handshake is done."""
            source = listener.source
            peer = PeerConnection(source, None, source.snapshot, address=address)
            listener.hold(peer, transport)
            bound = copy.copy(config)
            bound.loaded_app = with_connection(config.loaded_app, tls_extension(connection), peer)
            protocol: asyncio.Protocol = listener.protocol_class(
                config=bound, server_state=server_state, app_state=app_state
            )
            return protocol

        return Gate(
            self._certificate.context,
            handshakes=self._handshakes,
            server_state=server_state,
            timeout=listener.settings.handshake_timeout,
            enter=enter,
            verified_class=ssl.SSLObject,
        )


class _RunningEdge:
    """uvicorn's server for the public listener, in the event loop of the inner one."""

    def __init__(
        self, config: Config, certificate: PublicCertificate, state: dict[str, Any]
    ) -> None:
        self._server = uvicorn.Server(config)
        self._server.lifespan = cast("Any", _SharedLifespan(state))
        self._certificate = certificate
        self._sockets: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, listening: socket.socket, poll_seconds: float) -> None:
        """Answer on this socket, and look at the certificate now and then."""
        self._sockets = [listening]
        await self._server.startup(sockets=self._sockets)
        self._tasks = [
            asyncio.create_task(self._server.main_loop()),
            asyncio.create_task(self._follow(poll_seconds)),
        ]

    async def stop(self) -> None:
        """Let requests end, and close the socket."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.shutdown(sockets=self._sockets)

    async def _follow(self, poll_seconds: float) -> None:
        while True:
            await asyncio.sleep(poll_seconds)
            await asyncio.to_thread(self._certificate.reload)


class _SharedLifespan:
    """The application is started and stopped with the inner listener; its state is shared."""

    should_exit = False

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    async def startup(self) -> None:
        """Nothing: the application runs."""

    async def shutdown(self) -> None:
        """Nothing: the application ends later."""
