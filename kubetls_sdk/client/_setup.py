# SPDX-License-Identifier: Apache-2.0
"""What the constructors of all four clients do: check the options, make the transport.

Rules:
    1. An option that would choose trust or route by other means is refused by name.
    2. The environment has no say: no proxies, no `SSL_CERT_FILE`. The web roots are never loaded.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from kubetls_sdk.client._inner_transport import AsyncInnerTransport, LibraryTransport
from kubetls_sdk.client._servers import expected_servers
from kubetls_sdk.client._transport import AsyncTransport, SyncTransport
from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from kubetls_sdk._context import ReloadingContext
    from kubetls_sdk.source import Source

__all__ = ("Setup",)

_REFUSED = {
    "verify": "the source has the trust bundles and server= says who is trusted",
    "cert": "the source has our certificate",
    "transport": "a transport of its own would not verify the server; give source= instead",
    "mounts": "a mounted transport would not verify the server",
    "proxy": "it would end mutual TLS at the proxy, or hide whom we talk to",
    "trust_env": "proxies and certificates of the environment are never used",
    "web_roots": "no web root vouches for a workload; use ExternalClient for the public internet",
    "roots": "the source has the trust bundles; use ExternalClient for the public internet",
}
_OF_TRANSPORT = ("http1", "http2", "limits")


class Setup:
    """The checked arguments of one client.

    Args:
        library: `httpx` or `httpx2`.
        server: See `kubetls_sdk.client._servers.expected_servers`.
        servers: Likewise.
        service_names: Likewise.
        source: Our identity, or None.
        options: What else the client was given; goes to the library.

    Raises:
        ConfigurationError: Contradictory, missing or refused arguments.
    """

    def __init__(
        self,
        library: ModuleType,
        *,
        server: object,
        servers: Mapping[str, object] | None,
        service_names: bool,
        source: Source | None,
        options: dict[str, Any],
    ) -> None:
        _check(library, options)
        if isinstance(source, str | os.PathLike):
            raise ConfigurationError(
                f"expected a source such as VolumeSource({os.fspath(source)!r}), got a path"
            )
        self._library = library
        self._servers = expected_servers(
            server=server, servers=servers, service_names=service_names
        )
        self._source = source
        self._of_transport = {key: options.pop(key) for key in _OF_TRANSPORT if key in options}
        self.options = {key: value for key, value in options.items() if key not in _REFUSED}

    def sync_transport(self) -> Any:
        """Make the transport of a `Client`."""
        return self._transport(SyncTransport, self._make_sync)

    def async_transport(self) -> Any:
        """Make the transport of an `AsyncClient`."""
        return self._transport(AsyncTransport, self._make_async)

    def _transport(self, kind: type[Any], make: Callable[[ReloadingContext], Any]) -> Any:
        # In this order the libraries' own transports offer them.
        protocols = ("http/1.1", "h2") if self._of_transport.get("http2") else ("http/1.1",)
        return kind(self._library, self._servers, self._source, make=make, alpn_protocols=protocols)

    def _make_sync(self, context: ReloadingContext) -> Any:
        return LibraryTransport(self._library, context, self._of_transport)

    def _make_async(self, context: ReloadingContext) -> Any:
        return AsyncInnerTransport(self._library, context, self._of_transport)


def _check(library: ModuleType, options: Mapping[str, Any]) -> None:
    for name, reason in _REFUSED.items():
        value = options.get(name)
        if name in options and not (name == "trust_env" and value is False) and value is not None:
            raise ConfigurationError(f"expected no {name}=, got one: {reason}")
    base = library.URL(options.get("base_url") or "")
    if base.scheme not in ("", "https", "wss"):
        raise ConfigurationError(f"expected an https base_url, got {str(base)!r}")
