# SPDX-License-Identifier: Apache-2.0
"""`Client` and `AsyncClient` of httpx2 that authenticate both sides with mounted identities.

    with Client(server="spiffe://example.org/ns/shop/sa/orders") as client:
        client.get("https://orders.shop.svc:8443/orders/42")

Rules:
    1. Whom the server must prove to be is a mandatory argument.
    2. Rotation needs nothing from the caller; it fails no request.
    3. The public internet has clients of its own, which never present our certificate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2

from kubetls_sdk.client._external import ExternalSetup
from kubetls_sdk.client._setup import Setup

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from kubetls_sdk.source import Source

__all__ = ("AsyncClient", "AsyncExternalClient", "Client", "ExternalClient")


class Client(httpx2.Client):
    """An `httpx2.Client` with our identity, for servers with an expected one.

    Exactly one of `server`, `servers` and `service_names` is required. A response's
    `extensions["verified_peer"]` says who answered. Limits count for each expected identity.

    Args:
        server: Who every server must be: a SPIFFE ID, a pattern, several of them, or an
            `ExpectedPeer`.
        servers: The same for each `host`, `host:port` or `https://host:port`; other origins are
            refused.
        service_names: Whether a server must carry the DNS name in its URL, vouched for by our own
            trust domain.
        source: Our identity and trust. None for the volume that is mounted in the pod; it is then
            opened with the first request and closed with the client.
        options: As of `httpx2.Client`, without `verify`, `cert`, `transport`, `mounts`,
            `proxy` and `trust_env`.

    Raises:
        ConfigurationError: Contradictory, missing or refused arguments.
        SpiffeIdError: An expected SPIFFE ID is none.
    """

    def __init__(
        self,
        *,
        server: object = None,
        servers: Mapping[str, object] | None = None,
        service_names: bool = False,
        source: Source | None = None,
        **options: Any,
    ) -> None:
        setup = Setup(
            httpx2,
            server=server,
            servers=servers,
            service_names=service_names,
            source=source,
            options=options,
        )
        super().__init__(transport=setup.sync_transport(), **setup.options, trust_env=False)


class AsyncClient(httpx2.AsyncClient):
    """An `httpx2.AsyncClient` with our identity; arguments and errors are those of `Client`."""

    def __init__(
        self,
        *,
        server: object = None,
        servers: Mapping[str, object] | None = None,
        service_names: bool = False,
        source: Source | None = None,
        **options: Any,
    ) -> None:
        setup = Setup(
            httpx2,
            server=server,
            servers=servers,
            service_names=service_names,
            source=source,
            options=options,
        )
        super().__init__(transport=setup.async_transport(), **setup.options, trust_env=False)


class ExternalClient(httpx2.Client):
    """An `httpx2.Client` for the public internet: an ordinary https client, and nothing of ours.

    Exactly one of `web_roots=True` and `roots` is required. No certificate is presented, whoever
    asks for it; servers are verified by their DNS names; `http` URLs are refused.

    Args:
        web_roots: Trust the web's roots: certifi's when it is installed, else the system's.
        roots: PEM file of the roots to trust instead. Read once.
        options: As of `httpx2.Client`, without `verify`, `cert`, `transport`, `mounts` and
            `trust_env`.

    Raises:
        ConfigurationError: Contradictory, missing or refused arguments, or roots that cannot be
            used.
    """

    def __init__(
        self,
        *,
        web_roots: bool = False,
        roots: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        setup = ExternalSetup(httpx2, web_roots=web_roots, roots=roots, options=options)
        super().__init__(transport=setup.sync_transport(), **setup.options, trust_env=False)


class AsyncExternalClient(httpx2.AsyncClient):
    """An `httpx2.AsyncClient` for the public internet; as `ExternalClient`."""

    def __init__(
        self,
        *,
        web_roots: bool = False,
        roots: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        setup = ExternalSetup(httpx2, web_roots=web_roots, roots=roots, options=options)
        super().__init__(transport=setup.async_transport(), **setup.options, trust_env=False)
