# SPDX-License-Identifier: Apache-2.0
"""uvicorn behind the SDK's gate, with the serving certificate that is in force.

Rules:
    1. Handshakes are bounded in number and time, as on every listener of the SDK, and
       connections in number.
    2. Idle connections are the API server's to end: a server that ends one while a review is on
       its way makes an admission fail.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, Final, cast

import uvicorn
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.importer import import_from_string

from kubetls_sdk.server._gate import Gate
from kubetls_sdk.server._handshakes import Handshakes
from kubetls_sdk.server.refusal_log import log_refusal
from webhook.injection.crowd import Crowd
from webhook.injection.serving_certificate import client_name_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Set

    from uvicorn.server import ServerState

    from webhook.injection.app import InjectorApp
    from webhook.injection.serving_certificate import ServingCertificate

__all__ = ("Listener",)

_HANDSHAKE_SECONDS: Final = 10.0
_MAX_HANDSHAKES: Final = 128
_MAX_CONNECTIONS: Final = 512
"""Each takes 0.3 MiB, all of them what the manifests' limit of memory allows."""
_IDLE_SECONDS: Final = 150
"""More than the 90 s after which Go's client ends idle connections."""


class Listener:
    """The listener of one injector.

    Args:
        app: What is served.
        certificate: With what.
        client_names: Whose client certificates are accepted; empty: any that verifies.
    """

    def __init__(
        self,
        app: InjectorApp,
        certificate: ServingCertificate,
        *,
        client_names: Set[str] = frozenset(),
    ) -> None:
        self._certificate = certificate
        self._client_names = client_names
        self._handshakes = Handshakes(_MAX_HANDSHAKES)
        self._crowd = Crowd(_MAX_CONNECTIONS)
        self._protocol_class: Any = import_from_string(HTTP_PROTOCOLS["auto"])
        config = uvicorn.Config(
            cast("Any", app),
            http=cast("Any", self._gate),
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=10,
        )
        config.load()
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        self._sockets: list[socket.socket] = []
        self._ticking: asyncio.Task[None] | None = None

    async def start(self, bound: socket.socket) -> None:
        """Serve on a bound socket."""
        self._sockets = [bound]
        await self._server.startup(sockets=self._sockets)
        self._ticking = asyncio.create_task(self._server.main_loop())

    async def stop(self) -> None:
        """Answer what was asked, and end."""
        self._server.should_exit = True
        if self._ticking is not None:
            await self._ticking
        await self._server.shutdown(sockets=self._sockets)

    def _gate(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Protocol:
        def enter(
            connection: ssl.SSLObject, transport: asyncio.Transport, address: str
        ) -> asyncio.Protocol:
            if not self._is_expected(connection, address):
                transport.abort()
                return asyncio.Protocol()
            protocol: asyncio.Protocol = self._protocol_class(
                config=config, server_state=server_state, app_state=app_state
            )
            self._crowd.enter(protocol, server_state.connections)
            return protocol

        return Gate(
            self._certificate.context,
            handshakes=self._handshakes,
            server_state=server_state,
            timeout=_HANDSHAKE_SECONDS,
            enter=enter,
            verified_class=ssl.SSLObject,
        )

    def _is_expected(self, connection: ssl.SSLObject, address: str) -> bool:
        names = self._client_names
        if not names or client_name_of(connection, names) is not None:
            return True
        reason = f"expected a client certificate of {' or '.join(sorted(names))}"
        log_refusal("handshake", reason, address=address)
        return False
