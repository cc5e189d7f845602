# SPDX-License-Identifier: Apache-2.0
"""gRPC channels that authenticate both sides with mounted identities.

    with secure_channel(
        "orders.shop.svc:8443", source, server_id="spiffe://example.org/ns/shop/sa/orders"
    ) as channel:
        orders_pb2_grpc.OrdersStub(channel).Get(request)

Rules:
    1. Whom the server must prove to be is a mandatory argument, and checked inside the handshake.
    2. Rotation needs nothing from the caller; it fails no call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubetls_sdk.client._grpc_aio_channel import AsyncChannel
from kubetls_sdk.client._grpc_channel import GRACE_SECONDS, Channel
from kubetls_sdk.client._grpc_core import MAX_AGE_SECONDS, Settings
from kubetls_sdk.client._grpc_idle import LINGER_SECONDS
from kubetls_sdk.expectation import ServiceName

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from grpc import aio

    from kubetls_sdk.source import Source

__all__ = (
    "GRACE_SECONDS",
    "LINGER_SECONDS",
    "MAX_AGE_SECONDS",
    "AsyncChannel",
    "Channel",
    "ServiceName",
    "aio_secure_channel",
    "secure_channel",
)


def secure_channel(
    target: str,
    source: Source,
    *,
    server_id: object,
    options: Iterable[tuple[str, Any]] | None = None,
    compression: Any = None,
) -> Channel:
    """Make a threaded channel.

    Args:
        target: `host:port`, `dns:///host:port`, or `ipv4:` and `ipv6:` with several addresses.
        source: Our SVID and whom we trust.
        server_id: Who the server must be: a SPIFFE ID, several of one trust domain, or
            `ServiceName("orders.shop.svc")` for whoever our own trust domain vouches for by DNS
            name.
        options: Of gRPC. Of `grpc.service_config`, retries, timeouts and `round_robin`.
        compression: As of `grpc.secure_channel`.

    Raises:
        ConfigurationError: An argument is contradictory or out of range; not on Linux.
        SpiffeIdError: A text is not a SPIFFE ID.
        NotReadyError: The source has nothing yet.
        SvidError: gRPC cannot use the SVID.
    """
    return Channel(
        Settings.of(target, source, server_id=server_id, options=options, compression=compression)
    )


def aio_secure_channel(
    target: str,
    source: Source,
    *,
    server_id: object,
    options: Iterable[tuple[str, Any]] | None = None,
    compression: Any = None,
    interceptors: Sequence[aio.ClientInterceptor] | None = None,
) -> AsyncChannel:
    """Make an asyncio channel, in the event loop that uses it.

    Arguments and errors are those of `secure_channel`; interceptors as of
    `grpc.aio.secure_channel`.
    """
    settings = Settings.of(
        target, source, server_id=server_id, options=options, compression=compression
    )
    return AsyncChannel(settings, interceptors or ())
