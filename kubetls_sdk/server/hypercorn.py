# SPDX-License-Identifier: Apache-2.0
"""Serve an ASGI application with hypercorn over mutual TLS: HTTP/1.1, HTTP/2 and WebSockets.

For one process; hypercorn's own command line and its worker processes know nothing of us. With
several processes use `kubetls_sdk.server.uvicorn`. The event loop does the handshake, so a refused
one is logged without the peer's address, and unfinished ones are bounded by time alone.

Rules:
    1. hypercorn makes one `TCPServer` for each connection; ours adds the identity to its scopes,
       and serves no connection that our context did not make.
    2. A `root_path` is part of the path, as ASGI wants and uvicorn does it. Without, applications
       would serve each path with and without it, and the policy would see one of the two.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import hypercorn.asyncio.run
from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config

from kubetls_sdk._context import ReloadingContext, server_context
from kubetls_sdk._verifying import VerifyingSSLObject
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server._gate import peer_address, set_tcp_option
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.connection import PeerConnection, tls_extension, with_connection
from kubetls_sdk.server.mutual_tls import MutualTls
from kubetls_sdk.server.policy_choice import PolicyChoice
from kubetls_sdk.server.refusal_log import log_refused_peer
from kubetls_sdk.server.sweeper import Sweeper
from kubetls_sdk.server.user_choice import UserChoice

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Sequence

    from kubetls_sdk.server.authorizer import Authorizer, AuthorizerHolder
    from kubetls_sdk.server.forwarded import ForwardedFrom
    from kubetls_sdk.users.settings import UserSettings

__all__ = ("serve",)


async def serve(
    app: Callable[..., Any],
    config: Config,
    *,
    policy: Authorizer | AuthorizerHolder | Sequence[str | os.PathLike[str]],
    tls: MutualTls | None = None,
    anonymous_paths: Sequence[str] = (),
    users: UserSettings | str | os.PathLike[str] | None = None,
    forwarded: ForwardedFrom | None = None,
    shutdown_trigger: Callable[..., Awaitable[None]] | None = None,
) -> None:
    """Serve until a signal or the trigger ends it.

    Args:
        app: An ASGI application.
        config: hypercorn's, without certificates. All of `bind` speaks mutual TLS.
        policy: An authorizer, or the paths of policy files.
        tls: How to speak TLS; what concerns uvicorn alone is not used.
        anonymous_paths: See `KubeTLSMiddleware`.
        users: End users to authenticate: settings, or the path of a users file.
        forwarded: The proxies that are believed about their clients.
        shutdown_trigger: As for `hypercorn.asyncio.serve`.

    Raises:
        ConfigurationError: The configuration has certificates, or plain or QUIC addresses.
        KubeTLSError: The volume or the policy cannot be used.
    """
    _check(config)
    settings = tls if tls is not None else MutualTls()
    choice, user_choice = PolicyChoice(policy), UserChoice(users)
    source = settings.open_source()
    sweeper = Sweeper(source, settings.stream_recheck)
    try:
        opened = user_choice.open(source)
        protected = KubeTLSMiddleware(
            app,
            users=opened,
            policy=choice.open(source.snapshot.trust_domain, check=user_choice.check),
            optional=settings.client_cert == "optional",
            anonymous_paths=anonymous_paths,
            forwarded=forwarded,
        )
        secured = _SecuredConfig(config, settings, source, sweeper)
        _install()
        await hypercorn_serve(protected, secured, shutdown_trigger=shutdown_trigger, mode="asgi")
    finally:
        sweeper.close()
        choice.close()
        user_choice.close()
        settings.close_source(source)


def _check(config: Config) -> None:
    for name in ("certfile", "keyfile", "ca_certs", "verify_mode"):
        if getattr(config, name) is not None:
            raise ConfigurationError(f"expected no {name}: the mounted volume has it")
    if config.insecure_bind or config.quic_bind:
        raise ConfigurationError("expected no insecure_bind and no quic_bind: TLS over TCP only")


class _SecuredConfig(Config):
    """hypercorn's configuration, with our context in place of files."""

    def __init__(self, config: Config, settings: MutualTls, source: Any, sweeper: Sweeper) -> None:
        super().__init__()
        self.__dict__.update(config.__dict__)
        self.ssl_handshake_timeout = settings.handshake_timeout
        self.source = source
        self.sweeper = sweeper
        self.reloading = server_context(
            source,
            optional=settings.client_cert == "optional",
            allow_tls12=settings.allow_tls12,
            alpn_protocols=config.alpn_protocols,
            on_refusal=log_refused_peer,
        )

    @property
    def ssl_enabled(self) -> bool:
        """Always: there is no plain listener."""
        return True

    def create_ssl_context(self) -> ReloadingContext:
        """Give hypercorn our context."""
        return self.reloading


class _PeerServer(TCPServer):
    """One connection of hypercorn's, which knows its peer."""

    async def run(self) -> None:
        """Serve the connection, when it is one of ours."""
        config = self.config
        if isinstance(config, _SecuredConfig):
            connection = self.writer.get_extra_info("ssl_object")
            if type(connection) is not VerifyingSSLObject:
                self.writer.transport.abort()
                return
            self.app = self._connected(config, connection)
        await super().run()

    def _connected(self, config: _SecuredConfig, connection: VerifyingSSLObject) -> Any:
        transport = self.writer.transport
        set_tcp_option(transport, "TCP_QUICKACK")  # as the gate does
        snapshot = connection.snapshot or config.source.snapshot
        peer = PeerConnection(
            config.source, connection.verified_peer, snapshot, address=peer_address(transport)
        )

        def end(_: bool) -> None:
            """Leave the answers that are under way the grace of the sweeper."""
            asyncio.get_running_loop().call_later(config.sweeper.grace, transport.abort)

        peer.end = end
        config.sweeper.add(peer)
        app = _rooted(self.app, config.root_path) if config.root_path else self.app
        return with_connection(app, tls_extension(connection), peer)


def _rooted(app: Any, root_path: str) -> Any:
    raw_root = root_path.encode("ascii")

    def rooted(scope: dict[str, Any], *rest: Any) -> Any:
        """Put the root in front, as uvicorn does."""
        if scope["type"] != "lifespan":
            scope["path"] = root_path + scope["path"]
            scope["raw_path"] = raw_root + scope["raw_path"]
        return app(scope, *rest)

    return rooted


def _install() -> None:
    """Let hypercorn make our kind of connection; it behaves as its own for other servers."""
    vars(hypercorn.asyncio.run)["TCPServer"] = _PeerServer
