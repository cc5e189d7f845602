# SPDX-License-Identifier: Apache-2.0
"""A fast HTTP/1.1 transport for the async clients of httpx and httpx2 on asyncio.

Their own transports spend most of a request in their pool and in layers above the socket, and
collapse under concurrency. This one speaks the same transport API.

Rules:
    1. It does what a plain request needs. Upgrades, CONNECT, HTTP/2, tracing and trio are refused
       with `NotPlainError`, for the library's own transport.
    2. A request is sent once. No retries, redirects, cookies, proxies or decompression here.
    3. Every error is one of the library's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubetls_sdk.client._http11_connection import Key, WriteTimeoutError
from kubetls_sdk.client._http11_pool import (
    ConnectFailedError,
    ConnectionPool,
    ConnectTimeoutError,
    PoolLimits,
    PoolTimeoutError,
)
from kubetls_sdk.client._http11_request import RequestError, encode_head
from kubetls_sdk.client._http11_response import ResponseError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import ModuleType

    from kubetls_sdk._context import ReloadingContext
    from kubetls_sdk.client._http11_connection import Connection
    from kubetls_sdk.client._http11_request import RequestHead
    from kubetls_sdk.client._http11_response import ResponseReader

__all__ = ("Http11Transport", "NotPlainError")

_HTTPS_PORT = 443
_NO_TIMEOUTS: dict[str, float | None] = {}


class NotPlainError(Exception):
    """The request is for the library's own transport; nothing was sent."""


class Http11Transport:
    """Sends requests over its own connections. Made in a running event loop, and belongs to it.

    Args:
        library: `httpx` or `httpx2`.
        context: Whose handshake verifies the server.
        limits: A `Limits` of the library.
    """

    def __init__(self, library: ModuleType, context: ReloadingContext, limits: Any) -> None:
        self._library = library
        context.set_alpn_protocols(["http/1.1"])
        self._pool = ConnectionPool(context, _limits(limits))
        self._errors = _error_types(library)
        self._stream_type = type("Http11Stream", (_BodyStream, library.AsyncByteStream), {})

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request and return its response, whose stream may still be on its way.

        Raises:
            NotPlainError: It is not one for this transport.
        """
        timeouts = request.extensions.get("timeout", _NO_TIMEOUTS)
        try:
            head = _plain_head(request)
            connection = await self._pool.acquire(
                _key(request),
                connect_timeout=timeouts.get("connect"),
                pool_timeout=timeouts.get("pool"),
            )
            try:
                body = self._body(request)
                await connection.send(head.encoded, body, head.body_length, timeouts.get("write"))
                reader = await connection.receive_head(timeouts.get("read"))
            except BaseException:
                self._pool.discard(connection)
                raise
        except Exception as err:
            self._translate(err)
            raise
        return self._response(connection, reader, timeouts.get("read"))

    async def aclose_idle(self) -> None:
        """Close what is not in use."""
        self._pool.close_idle()

    async def aclose(self) -> None:
        """Close everything."""
        self._pool.close()

    def _translate(self, err: Exception) -> None:
        """Raise the library's error for one of ours; an error of the caller's own is none."""
        for kind, error in self._errors:
            if isinstance(err, kind):
                raise error(str(err)) from err

    def _body(self, request: Any) -> Any:
        try:
            return request.content
        except self._library.RequestNotRead:
            return request.stream

    def _response(
        self, connection: Connection, reader: ResponseReader, timeout: float | None
    ) -> Any:
        return self._library.Response(
            reader.status,
            headers=reader.headers,
            stream=self._stream_type(self, connection, reader, timeout),
            extensions={
                "http_version": reader.version,
                "reason_phrase": reader.reason,
                "network_stream": _NetworkStream(connection.transport),
                "verified_peer": connection.peer,
            },
        )


class _BodyStream:
    """The body of a response; gives the connection back at its end."""

    def __init__(
        self,
        transport: Http11Transport,
        connection: Connection,
        reader: ResponseReader,
        timeout: float | None,
    ) -> None:
        self._transport = transport
        self._connection: Connection | None = connection
        self._reader = reader
        self._timeout = timeout
        if reader.is_complete:
            self._release()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self  # not a generator, which asyncio would have to keep a list of

    async def __anext__(self) -> bytes:
        reader, connection = self._reader, self._connection
        if connection is None:
            part = reader.take()
        else:
            try:
                part = await connection.receive_body(self._timeout)
            except Exception as err:
                self._transport._translate(err)  # noqa: SLF001
                raise
            if reader.is_complete:
                self._release()
        if not part:
            raise StopAsyncIteration
        return part

    @property
    def is_complete(self) -> bool:
        """Whether the response no longer needs its connection."""
        return self._connection is None

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport._pool.discard(connection)  # noqa: SLF001

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport._pool.release(connection)  # noqa: SLF001


class _NetworkStream:
    """Lets users see the connection, as the library's own transport does."""

    _NAMES = {"client_addr": "sockname", "server_addr": "peername"}  # noqa: RUF012

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def get_extra_info(self, info: str) -> Any:
        """Return `ssl_object`, `socket`, `client_addr` or `server_addr`, else None."""
        return self._transport.get_extra_info(self._NAMES.get(info, info))


def _plain_head(request: Any) -> RequestHead:
    head = encode_head(
        request.method.encode("ascii"),
        request.extensions.get("target") or request.url.raw_path,
        request.headers.raw,
    )
    if (
        head.asks_for_upgrade
        or request.method == "CONNECT"
        or request.url.scheme != "https"
        or "trace" in request.extensions
    ):
        raise NotPlainError
    return head


def _key(request: Any) -> Key:
    url = request.url
    host = url.raw_host.decode("ascii")
    name = request.extensions.get("sni_hostname") or host
    return Key(host, url.port or _HTTPS_PORT, name)


def _limits(limits: Any) -> PoolLimits:
    def bound(value: float | None) -> float:
        return float("inf") if value is None else value

    return PoolLimits(
        connections=bound(limits.max_connections),
        idle=bound(limits.max_keepalive_connections),
        idle_seconds=bound(limits.keepalive_expiry),
    )


def _error_types(library: ModuleType) -> tuple[tuple[type[Exception], Any], ...]:
    """Which error of the library stands for which of ours; the first that fits."""
    return (
        (PoolTimeoutError, library.PoolTimeout),
        (ConnectTimeoutError, library.ConnectTimeout),
        (WriteTimeoutError, library.WriteTimeout),
        (TimeoutError, library.ReadTimeout),
        (ConnectFailedError, library.ConnectError),
        (RequestError, library.LocalProtocolError),
        (ResponseError, library.RemoteProtocolError),
        (OSError, library.ReadError),
    )
