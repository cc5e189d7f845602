# SPDX-License-Identifier: Apache-2.0
"""`Client` and `AsyncClient` of httpx2 that authenticate both sides with mounted identities.

    with Client(server="spiffe://example.org/ns/shop/sa/orders") as client:
        client.get("https://orders.shop.svc:8443/orders/42")

Rules:
    1. Whom the server must prove to be is a mandatory argument.
    2. Rotation needs nothing from the caller; it fails no request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2

from kubetls_sdk.client._setup import Setup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kubetls_sdk.source import Source

__all__ = ("AsyncClient", "Client")


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
