# SPDX-License-Identifier: Apache-2.0
"""The transports that do the work inside a pool.

Rules:
    1. Sync clients, HTTP/2, trio and whatever is not a plain request use the library's own.
    2. Plain HTTP/1.1 requests on asyncio use ours when httptools is installed (extra `fast`).
    3. Both say who answered, in the response's `extensions["verified_peer"]`.
"""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from kubetls_sdk._context import ReloadingContext
    from kubetls_sdk.client._http11_transport import Http11Transport
    from kubetls_sdk.verification import VerifiedPeer

__all__ = ("AsyncInnerTransport", "LibraryTransport")

_HAS_HTTPTOOLS = find_spec("httptools") is not None
# The library's defaults for its clients, which it does not export.
_DEFAULT_LIMITS = {"max_connections": 100, "max_keepalive_connections": 20}


class LibraryTransport:
    """The library's own transport, sync or async.

    Args:
        library: `httpx` or `httpx2`.
        context: Whose handshake verifies the server.
        options: `http1`, `http2` and `limits`.
        is_async: Which of the two.
    """

    def __init__(
        self,
        library: ModuleType,
        context: ReloadingContext,
        options: Mapping[str, Any],
        *,
        is_async: bool = False,
    ) -> None:
        kind = library.AsyncHTTPTransport if is_async else library.HTTPTransport
        self._transport = kind(verify=context, trust_env=False, **options)
        # Of a sync connection the library hands out the inner object of its socket, which is not
        # the one that verified; of an async one, the TLS object itself.
        self._verifying = "ssl_object" if is_async else "socket"

    def handle_request(self, request: Any) -> Any:
        """Send a request."""
        return self._with_peer(self._transport.handle_request(request))

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request."""
        return self._with_peer(await self._transport.handle_async_request(request))

    def close_idle(self) -> None:
        """Close what is not in use; nothing may be starting."""
        for connection in self._idle():
            connection.close()

    async def aclose_idle(self) -> None:
        """Close what is not in use; nothing may be starting."""
        for connection in self._idle():
            await connection.aclose()

    def keep_none(self) -> None:
        """Keep no connection for another request; does no I/O."""
        self._transport._pool._max_keepalive_connections = 0  # noqa: SLF001 - it has no way to it

    def close(self) -> None:
        """Close everything."""
        self._transport.close()

    async def aclose(self) -> None:
        """Close everything."""
        await self._transport.aclose()

    def _with_peer(self, response: Any) -> Any:
        """Add who answered, from the connection that the response came on."""
        stream = response.extensions["network_stream"]
        peer: VerifiedPeer = stream.get_extra_info(self._verifying).verified_peer
        response.extensions["verified_peer"] = peer
        return response

    def _idle(self) -> list[Any]:
        connections = self._transport._pool.connections  # noqa: SLF001 - httpx has no way to it
        return [connection for connection in connections if connection.is_idle()]


class AsyncInnerTransport:
    """Ours for plain requests, the library's own for the rest; each is made when it is needed.

    Args:
        library: `httpx` or `httpx2`.
        context: Whose handshake verifies the server.
        options: `http1`, `http2` and `limits`.
    """

    def __init__(
        self, library: ModuleType, context: ReloadingContext, options: Mapping[str, Any]
    ) -> None:
        self._library = library
        self._context = context
        self._options = options
        self._others: LibraryTransport | None = None
        self._ours: Http11Transport | None = None
        self._not_plain: type[Exception]
        if _HAS_HTTPTOOLS and not options.get("http2") and _is_on_asyncio():
            from kubetls_sdk.client._http11_transport import Http11Transport, NotPlainError

            limits = options.get("limits") or library.Limits(**_DEFAULT_LIMITS)
            self._ours = Http11Transport(library, context, limits)
            self._not_plain = NotPlainError

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request."""
        if self._ours is not None:
            try:
                return await self._ours.handle_async_request(request)
            except self._not_plain:
                pass
        return await self._library_transport().handle_async_request(request)

    async def aclose_idle(self) -> None:
        """Close what is not in use; nothing may be starting."""
        for transport in self._made():
            await transport.aclose_idle()

    def keep_none(self) -> None:
        """Keep no connection for another request. Ours looks at each one by itself."""
        if self._others is not None:
            self._others.keep_none()

    async def aclose(self) -> None:
        """Close everything."""
        for transport in self._made():
            await transport.aclose()

    def _made(self) -> list[Http11Transport | LibraryTransport]:
        return [each for each in (self._ours, self._others) if each is not None]

    def _library_transport(self) -> LibraryTransport:
        if self._others is None:
            self._others = LibraryTransport(
                self._library, self._context, self._options, is_async=True
            )
        return self._others


def _is_on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
