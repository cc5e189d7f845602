# SPDX-License-Identifier: Apache-2.0
"""How a server speaks mutual TLS: settings that travel to worker processes.

Rules:
    1. Settings are checked when they are made; a contradiction never reaches a handshake.
    2. An instance is picklable, unless it was given a living source: that stays in its process.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.refusal_log import adopt_handlers
from kubetls_sdk.volume_source import VolumeSource

if TYPE_CHECKING:
    import asyncio
    import ssl
    from collections.abc import Callable

    from uvicorn import Config
    from uvicorn.server import ServerState

    from kubetls_sdk.server._listener import Listener
    from kubetls_sdk.source import Source

__all__ = ("MutualTls",)

_HTTP2 = "uvicorn.protocols.http.auto_zttp_impl:AutoZttpProtocol"

ClientCertificate = Literal["required", "optional"]


@dataclass(frozen=True, kw_only=True)
class MutualTls:
    """Mutual TLS for uvicorn, through its own hooks.

    Give it to uvicorn as `http=`; everything else is started as always::

        uvicorn.run("orders.app:app", port=8443, http=MutualTls())

    For the partners of a federation file as well: `kubetls_sdk.federation.served.FederatedTls`.

    Attributes:
        source: Our SVID and whom we trust; by default the mounted volume. A source that you bring
            stays yours to close, and works with one process only.
        directory: The volume, instead of the one that the environment names.
        client_cert: `required`, or `optional` for a migration: then clients without a certificate
            get in as anonymous callers, which the policy sees.
        http: uvicorn's HTTP implementation: `auto`, `h11`, `httptools`, `zttp`, or a class.
        http2: HTTP/2 as well, chosen by ALPN; needs `http="zttp"`.
        allow_tls12: Also accept TLS 1.2 (see the security guide: it costs and protects less).
        handshake_timeout: Seconds that a handshake may take.
        max_handshakes: Unfinished handshakes at once, for each process.
        ready_timeout: Seconds that the start waits for the first usable content of the volume.
        stream_recheck: Seconds after which whatever runs on a connection has ended once its
            peer's certificate expired or its root was removed.

    Raises:
        ConfigurationError: A setting is out of range or contradicts another.
    """

    source: Source | None = None
    directory: str | None = None
    client_cert: ClientCertificate = "required"
    http: type[asyncio.Protocol] | str = "auto"
    http2: bool = False
    allow_tls12: bool = False
    handshake_timeout: float = 10.0
    max_handshakes: int = 1024
    stream_recheck: float = 5.0
    ready_timeout: float = 30.0

    def __post_init__(self) -> None:
        if self.client_cert not in ("required", "optional"):
            raise ConfigurationError(
                f"expected client_cert 'required' or 'optional', got {self.client_cert!r}"
            )
        for name in ("handshake_timeout", "max_handshakes", "stream_recheck"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"expected {name} > 0, got {getattr(self, name)!r}")
        if self.source is not None and self.directory is not None:
            raise ConfigurationError("expected a source or a directory, got both")
        if self.http2 and self.http != "zttp":
            raise ConfigurationError(f"expected http='zttp' for HTTP/2, got {self.http!r}")

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Protocol:
        """Make the protocol of an accepted connection; uvicorn calls this."""
        return self.open().protocol(config, server_state, app_state)

    @property
    def alpn_protocols(self) -> list[str]:
        """The application protocols that handshakes offer.

        uvicorn reads this when it loads its configuration, so a volume that cannot be used ends
        the start of the server, not its first connection.
        """
        return self.open().alpn_protocols

    @property
    def current_source(self) -> Source:
        """The source of this process; opens it when nobody has yet."""
        return self.open().source

    def ssl_context(
        self, config: Config, default_factory: Callable[[], ssl.SSLContext]
    ) -> ssl.SSLContext:
        """Be uvicorn's `ssl_context_factory`, for those who want TLS from uvicorn's own listener.

        Identities, policies and rechecks work as with `http=`. What needs the gate does not: a
        refused handshake is logged without the peer's address, and the event loop's own deadline
        (60 s) and no bound apply to unfinished ones.
        """
        del default_factory
        listener = self.open(protocol_class=config.http_protocol_class)
        config.http_protocol_class = listener.encrypted_protocol  # type: ignore[assignment]
        return listener.context

    def open(self, *, protocol_class: type | None = None) -> Listener:
        """Open the volume and prepare TLS, once for each process.

        Raises:
            NotReadyError: The volume has nothing usable in time.
        """
        listener: Listener | None = self.__dict__.get("_listener")
        if listener is None:
            from kubetls_sdk.server._listener import Listener

            adopt_handlers("uvicorn")
            source = self.open_source()
            listener = Listener(
                self,
                source,
                protocol_class or self._protocol_class(),
                is_gated=protocol_class is None,
            )
            object.__setattr__(self, "_listener", listener)
        return listener

    def close(self) -> None:
        """Stop what `open` started."""
        listener: Listener | None = self.__dict__.pop("_listener", None)
        if listener is not None:
            listener.close()
            self.close_source(listener.source)

    def open_source(self) -> Source:
        """Open the volume, or take the source that was given.

        Raises:
            NotReadyError: The volume has nothing usable in time.
        """
        if self.source is not None:
            return self.source
        return VolumeSource(self.directory, ready_timeout=self.ready_timeout).start()

    def close_source(self, source: Source) -> None:
        """Close what `open_source` opened; a source that was given stays open."""
        if isinstance(source, VolumeSource) and source is not self.source:
            source.close()

    def _protocol_class(self) -> type:
        from uvicorn.config import HTTP_PROTOCOLS
        from uvicorn.importer import import_from_string

        if not isinstance(self.http, str):
            return self.http
        name: str = self.http
        known: dict[str, str] = {**HTTP_PROTOCOLS}
        found: type = import_from_string(_HTTP2 if self.http2 else known.get(name, name))
        return found

    def __getstate__(self) -> dict[str, Any]:
        if self.source is not None:
            raise ConfigurationError(
                "expected a volume directory, got a source: it cannot go to worker processes"
            )
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
