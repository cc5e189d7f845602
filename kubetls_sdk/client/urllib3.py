# SPDX-License-Identifier: Apache-2.0
"""A urllib3 `PoolManager` with our identity, for a server with an expected one.

    pool = pool_manager(server="spiffe://example.org/ns/shop/sa/orders", source=source)
    pool.request("GET", "https://orders.shop.svc:8443/orders/42")

Rules:
    1. `https` only.
    2. Before each use of a kept connection: it belongs to the source's current generation and the
       server's certificate is valid, else it is closed and a new one is made. Requests under way
       are not touched.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from urllib3 import HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPSConnection

from kubetls_sdk._context import client_context
from kubetls_sdk.expectation import expected_peer

if TYPE_CHECKING:
    from kubetls_sdk.source import Source

__all__ = ("pool_manager",)


def pool_manager(*, server: object, source: Source, **options: Any) -> PoolManager:
    """Make a pool manager whose every connection authenticates both sides.

    Args:
        server: Who every server must be: a SPIFFE ID, a pattern, several of them, or an
            `ExpectedPeer`.
        source: Our identity and trust; stays open.
        options: Of `urllib3.PoolManager`.

    Raises:
        ConfigurationError: Nobody is expected.
        SpiffeIdError: An expected SPIFFE ID is none.
        CredentialError: The source has nothing yet.
    """
    context = client_context(source, expect=expected_peer(server))
    manager = PoolManager(**{**options, "ssl_context": context, "assert_hostname": False})
    manager.pool_classes_by_scheme = {"https": _Pool}
    manager.key_fn_by_scheme.pop("http", None)
    return manager


class _Connection(HTTPSConnection):
    @property
    def is_connected(self) -> bool:
        """Whether a request may be sent; urllib3 asks for each one."""
        return super().is_connected and _is_current(self.sock)


class _Pool(HTTPSConnectionPool):
    ConnectionCls = _Connection


def _is_current(connection: Any) -> bool:
    peer = connection.verified_peer
    return (
        connection.snapshot is connection.context.source.snapshot
        and peer is not None
        and time.time() < peer.expires_at.timestamp()
    )
