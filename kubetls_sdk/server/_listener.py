# SPDX-License-Identifier: Apache-2.0
"""The running state of one mutual TLS listener in one process: source, context, connections.

Rules:
    1. One per process: worker processes share settings, never a source, a context or a key.
    2. What cannot work fails when the listener opens, before the first connection.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, cast

from kubetls_sdk._context import server_context
from kubetls_sdk._verifying import VerifyingSSLObject
from kubetls_sdk.exceptions import PeerVerificationError
from kubetls_sdk.server._gate import Gate, peer_address, set_tcp_option
from kubetls_sdk.server._handshakes import Handshakes
from kubetls_sdk.server._joined_writes import JoinedWrites
from kubetls_sdk.server._line import Line, can_tell_requests
from kubetls_sdk.server.connection import PeerConnection, tls_extension, with_connection
from kubetls_sdk.server.refusal_log import log_refused_peer
from kubetls_sdk.server.sweeper import Sweeper

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

    from kubetls_sdk.server.mutual_tls import MutualTls
    from kubetls_sdk.source import Source

__all__ = ("Listener",)


class Listener:
    """What one process needs to serve mutual TLS.

    Args:
        settings: What the user asked for.
        source: Open.
        protocol_class: uvicorn's, for the decrypted connections.
        is_gated: The gate does the handshakes, and logs what it refuses.
    """

    def __init__(
        self, settings: MutualTls, source: Source, protocol_class: type, *, is_gated: bool
    ) -> None:
        self.settings = settings
        self.source = source
        self.protocol_class: Any = protocol_class
        self._can_tell_requests = can_tell_requests(protocol_class)
        self.alpn_protocols = list(getattr(protocol_class, "alpn_protocols", ["http/1.1"]))
        self.context = server_context(
            source,
            optional=settings.client_cert == "optional",
            allow_tls12=settings.allow_tls12,
            alpn_protocols=self.alpn_protocols,
            on_refusal=None if is_gated else log_refused_peer,
        )
        self.handshakes = Handshakes(settings.max_handshakes)
        self.sweeper = Sweeper(source, settings.stream_recheck)

    def close(self) -> None:
        """Stop looking after connections; the source is its owner's to close."""
        self.sweeper.close()

    def protocol(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any]
    ) -> asyncio.Protocol:
        """Make the protocol of a connection that was just accepted."""

        def enter(
            connection: VerifyingSSLObject, transport: asyncio.Transport, address: str
        ) -> asyncio.Protocol:
            bound = self._bound(config, connection, transport, address)
            protocol: asyncio.Protocol = self.protocol_class(
                config=bound, server_state=server_state, app_state=app_state
            )
            return protocol

        return Gate(
            self.context,
            handshakes=self.handshakes,
            server_state=server_state,
            timeout=self.settings.handshake_timeout,
            enter=enter,
        )

    def encrypted_protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Protocol:
        """Make the protocol of a connection whose handshake the event loop does."""
        return EncryptedEntrance(self, config, server_state, app_state)

    def replace(
        self,
        transport: asyncio.Transport,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        """Make the real protocol of an encrypted transport, and connect the two.

        Raises:
            PeerVerificationError: The transport is not one of our context's.
        """
        connection = transport.get_extra_info("ssl_object")
        if type(connection) is not VerifyingSSLObject:
            transport.abort()
            raise PeerVerificationError("the connection was not made by the listener's context")
        set_tcp_option(transport, "TCP_QUICKACK")  # as the gate does
        bound = self._bound(config, connection, transport, peer_address(transport))
        protocol = self.protocol_class(config=bound, server_state=server_state, app_state=app_state)
        transport.set_protocol(protocol)
        protocol.connection_made(JoinedWrites(transport))

    def enter(
        self, connection: VerifyingSSLObject, transport: asyncio.Transport, address: str
    ) -> PeerConnection:
        """Take a verified connection in."""
        snapshot = connection.snapshot or self.source.snapshot
        peer = PeerConnection(self.source, connection.verified_peer, snapshot, address=address)
        self.hold(peer, transport)
        self.sweeper.add(peer)
        return peer

    def hold(self, peer: PeerConnection, transport: asyncio.Transport) -> None:
        """Let a connection be ended, and tell what runs on it."""
        line = Line(transport, self.sweeper.grace)
        peer.end = line.end
        if self._can_tell_requests:
            peer.requests = line.requests

    def _bound(
        self,
        config: Config,
        connection: VerifyingSSLObject,
        transport: asyncio.Transport,
        address: str,
    ) -> Config:
        """Give uvicorn's configuration an application that knows the connection."""
        peer = self.enter(connection, transport, address)
        bound: Config = object.__new__(_bound_class(type(config)))  # type: ignore[arg-type]
        bound.__dict__ = config.__dict__  # shared: only the slot is this connection's own
        bound.loaded_app = with_connection(config.loaded_app, tls_extension(connection), peer)
        return bound


@functools.cache
def _bound_class(kind: type[Config]) -> type[Config]:
    """A class whose instances have an application of their own beside what they share."""
    return type(kind.__name__, (kind,), {"__slots__": ("loaded_app",)})


class EncryptedEntrance(asyncio.Protocol):
    """For TLS that the event loop did before: makes the real protocol once there is a transport.

    Args:
        listener: Takes the connection in.
        config: Of uvicorn, as the next two.
        server_state: Passed on.
        app_state: Passed on.
    """

    def __init__(
        self,
        listener: Listener,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        self._listener = listener
        self._arguments = (config, server_state, app_state)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Put the real protocol in our place."""
        self._listener.replace(cast("asyncio.Transport", transport), *self._arguments)
