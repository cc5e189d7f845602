# SPDX-License-Identifier: Apache-2.0
"""HTTP to one API server: a pool of verified connections, limits on everything, errors of ours.

Rules:
    1. Each request has a deadline, its repetitions included; a watch has one for silence.
    2. Repeated is only what the API server refused unread (429, or 5xx with Retry-After), and
       reads. A write without an answer may have been carried out: that is the caller's to find out.
    3. A peer that vanished without a word (a node lost) is found out by TCP within 30 seconds.
"""

from __future__ import annotations

import asyncio
import copy
import json
import socket
import time
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from kubetls_sdk.exceptions import ConfigurationError
from webhook.api.backoff import Backoff
from webhook.api.errors import ApiError, UnreachableError, error_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from webhook.api.credentials import Credentials
    from webhook.api.requests import Request

__all__ = ("CONNECTIONS", "Transport")

CONNECTIONS: Final = 128
_READ_BYTES: Final = 2**21  # An event can be larger than what aiohttp buffers by itself.
REQUEST_SECONDS: Final = 30.0
_CONNECT_SECONDS: Final = 5.0
_IDLE_POOL_SECONDS: Final = 60.0  # under the API server's 90, so that we close first
_MAX_RETRY_AFTER: Final = 60.0
_UNAUTHORIZED: Final = 401
_SUCCESS: Final = range(200, 300)
_NETWORK_ERRORS: Final = (aiohttp.ClientError, OSError, TimeoutError)


class Transport:
    """The connections to one API server."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        observe: Callable[[str, int, float], None] | None = None,
        connections: int = CONNECTIONS,
    ) -> None:
        self._credentials = credentials
        self._connections = connections
        self._server = credentials.server
        try:
            self._context = self._server.context()
        except OSError as error:  # No such file, or no certificate in it.
            raise ConfigurationError(
                f"the API server's CA or our certificate cannot be used: {error}"
            ) from error
        self._observe = observe or (lambda _method, _status, _seconds: None)
        self._session: aiohttp.ClientSession | None = None
        self.clock_ahead: float | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._server.host}>"

    def anonymous(self, connections: int) -> Transport:
        """At most so many connections of their own to the same API server, as nobody."""
        anonymous = self._credentials.anonymous()
        return Transport(anonymous, observe=self._observe, connections=connections)

    def with_token(self, token: str) -> Transport:
        """These connections, as whoever this token is of; they are not its own to close."""
        made = copy.copy(self)
        made._credentials = self._credentials.with_token(token)  # noqa: SLF001 - a copy of ours
        return made

    def open(self) -> None:
        """Make the pool; needs the running event loop."""
        connector = aiohttp.TCPConnector(
            ssl=self._context,
            limit=self._connections,
            keepalive_timeout=_IDLE_POOL_SECONDS,
            socket_factory=_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_READ_BYTES,
        )

    async def close(self) -> None:
        """Close all connections; requests and watches that run end in `UnreachableError`."""
        if self._session is not None:
            await self._session.close()

    async def send(self, request: Request, *, seconds: float = REQUEST_SECONDS) -> dict[str, Any]:
        """Send a request, again where that is right, and return the JSON object of the answer.

        Raises:
            ApiError: A refusal, or no answer within this many seconds, repetitions included.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        backoff = Backoff(initial=0.1, maximum=5.0)
        while True:
            remaining = deadline - asyncio.get_running_loop().time()
            try:
                return await self._send_once(request, remaining)
            except ApiError as error:
                pause = _pause(request, error, backoff)
                if pause is None or pause >= remaining:
                    raise
            await asyncio.sleep(pause)

    async def _send_once(self, request: Request, seconds: float) -> dict[str, Any]:
        limits = aiohttp.ClientTimeout(
            total=max(seconds, 0.001), connect=seconds, sock_connect=_CONNECT_SECONDS
        )
        async with self.stream(request, limits) as response:
            content = await response.read()
        try:
            answer = json.loads(content)
        except ValueError:
            raise UnreachableError(f"{request.what}: the answer is not JSON") from None
        if not isinstance(answer, dict):
            raise UnreachableError(f"{request.what}: the answer is no object")
        return answer

    @asynccontextmanager
    async def stream(
        self,
        request: Request,
        limits: aiohttp.ClientTimeout,
        *,
        open_seconds: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request once and give the open answer, which leaving the block ends.

        Args:
            request: What to send.
            limits: For the connection and for each read.
            open_seconds: How long the answer may take to begin.

        Raises:
            ApiError: A refusal, or the connection failed, in the block too.
        """
        try:
            async with asyncio.timeout(open_seconds):
                response = await self._answer(request, limits)
            async with response:
                await _raise_refusal(request, response)
                yield response
        except _NETWORK_ERRORS as error:
            if isinstance(error, aiohttp.ClientConnectorCertificateError):
                self._reload_authorities()
            reason = str(error) or type(error).__name__
            raise UnreachableError(f"{request.what}: {reason}") from error

    async def _answer(
        self, request: Request, limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        response = await self._attempt(request, limits)
        if response.status == _UNAUTHORIZED and await self._credentials.renew():
            response.release()
            response = await self._attempt(request, limits)
        return response

    async def _attempt(
        self, request: Request, limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        if self._session is None or self._session.closed:
            raise UnreachableError(f"{request.what}: the client is not open")
        headers = self._credentials.headers()
        headers |= {"Accept": "application/json", "User-Agent": "kubetls"}
        headers["Content-Type"] = request.content_type
        text = self._server.host + request.path
        if request.query:
            text += "?" + urlencode(request.query)
        started, status = time.perf_counter(), 0
        try:
            response = await self._session.request(
                request.method,
                URL(text, encoded=True),
                headers=headers,
                data=None if request.body is None else json.dumps(request.body),
                timeout=limits,
                server_hostname=self._server.tls_server_name,
                proxy=self._server.proxy,
            )
            status = response.status
        finally:
            self._observe(request.method, status, time.perf_counter() - started)
        self._compare_clocks(response.headers.get("Date"))
        return response

    def _compare_clocks(self, date: str | None) -> None:
        """Note by how many seconds our clock is ahead of the API server's."""
        try:
            self.clock_ahead = time.time() - parsedate_to_datetime(date or "").timestamp()
        except (ValueError, TypeError, OverflowError):
            return  # It does not say.

    def _reload_authorities(self) -> None:
        """Add the CA that stands in the file now: a cluster's CA can be replaced under us."""
        if self._server.ssl_ca_cert:
            self._context.load_verify_locations(cafile=self._server.ssl_ca_cert)


async def _raise_refusal(request: Request, response: aiohttp.ClientResponse) -> None:
    if response.status in _SUCCESS:
        return
    raise error_of(
        response.status,
        await response.read(),
        what=request.what,
        quiet=request.is_quiet,
        retry_after=_seconds(response.headers.get("Retry-After")),
    )


def _pause(request: Request, error: ApiError, backoff: Backoff) -> float | None:
    """Decide how many seconds to wait before the request is repeated; None: never."""
    is_read = request.method == "GET" and error.is_retryable
    if not is_read and not error.was_refused_unread:
        return None
    return backoff.delay(at_least=error.retry_after)


def _seconds(header: str | None) -> float | None:
    """Read a Retry-After; the API server sends seconds, never a date."""
    if header is None or not header.strip().isdecimal():
        return None
    return min(float(header), _MAX_RETRY_AFTER)


def _socket(address: Any) -> socket.socket:
    """Make a TCP socket whose dead peer is noticed: probes after 10 s, three of them 5 s apart."""
    family, kind, protocol, *_ = address
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # What else there is depends on the system: Linux has all four.
    for option, value in (
        ("TCP_KEEPIDLE", 10),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 30_000),
    ):
        if number := getattr(socket, option, None):
            made.setsockopt(socket.IPPROTO_TCP, number, value)
    return made
