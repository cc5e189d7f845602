# SPDX-License-Identifier: Apache-2.0
"""The way of a connection from `accept` to the HTTP protocol: a gate that does the TLS handshake.

uvicorn listens in plain TCP and makes a `Gate` for each connection. The gate starts TLS and, once
the peer is verified, hands the encrypted transport to uvicorn's own protocol. Unlike TLS that the
event loop starts by itself, this way knows the peer's address when it refuses, has a deadline, and
bounds what is unfinished.

Rules:
    1. Bytes from the wire never reach a protocol: the gate takes none, and what comes through TLS
       goes to another object, the `Reception`.
    2. The real protocol is made after the peer was verified, for this connection alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

from kubetls_sdk import metrics
from kubetls_sdk._verifying import VerifyingSSLObject
from kubetls_sdk.exceptions import KubeTLSError, PeerUnauthorizedError, PeerVerificationError
from kubetls_sdk.server._joined_writes import JoinedWrites
from kubetls_sdk.server.refusal_log import LogQuota, count_handshake, log, log_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from uvicorn.server import ServerState

    from kubetls_sdk.server._handshakes import Handshakes

__all__ = ("Gate", "peer_address", "set_tcp_option")

_TCP = (socket.AF_INET, socket.AF_INET6)
_failures = LogQuota()


class Reception(asyncio.Protocol):
    """Keeps what the verified peer sent with its last handshake message, for the real protocol."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        """Keep decrypted bytes."""
        self.received.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Remember that there is nobody left to serve."""
        self.is_lost = True


class Gate(asyncio.Protocol):
    """The plain end of a connection during its handshake.

    Args:
        context: Does the handshake and verifies the peer.
        handshakes: The unfinished ones of the listener.
        server_state: Of uvicorn.
        timeout: Seconds that the handshake may take.
        enter: Called with the TLS object, the transport and the address; returns the protocol.
        verified_class: Of the TLS object, once its handshake is complete.
    """

    __slots__ = (
        "_context",
        "_enter",
        "_handshakes",
        "_reception",
        "_server_state",
        "_started_at",
        "_timeout",
        "_tls",
        "_transport",
        "_verified_class",
        "address",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        handshakes: Handshakes,
        server_state: ServerState,
        timeout: float,
        enter: Callable[[Any, asyncio.Transport, str], asyncio.Protocol],
        verified_class: type[ssl.SSLObject] = VerifyingSSLObject,
    ) -> None:
        self.address = "?"
        self._context = context
        self._handshakes = handshakes
        self._server_state = server_state
        self._timeout = timeout
        self._enter: Any = enter
        self._verified_class = verified_class
        self._transport: Any = None
        self._reception: Any = Reception()
        self._started_at = 0.0
        self._tls: Coroutine[Any, Any, asyncio.Transport | None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake, before the event loop begins to read.

        uvloop reads as soon as this returns, paused or not. So the coroutine is taken to its first
        `await`, behind which TLS is the protocol of the transport; no task is needed for the rest.
        """
        self._transport = transport
        self._started_at = time.perf_counter()
        self.address = peer_address(transport)
        set_tcp_option(transport, "TCP_NODELAY")  # not every event loop does, on every listener
        self._handshakes.begin(self, self._server_state)
        self._tls = asyncio.get_running_loop().start_tls(
            self._transport,
            self._reception,
            self._context,
            server_side=True,
            ssl_handshake_timeout=self._timeout,
        )
        self._step()

    def data_received(self, data: bytes) -> None:
        """Never happens: TLS is the protocol of the transport by now. Nothing of it is used."""
        del data
        self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        self._handshakes.end(self)
        if self._transport is not None:
            self._transport.abort()

    def _step(self, _: Any = None) -> None:
        """Go on with the handshake: to what it waits for, or to its end."""
        if self._tls is None:
            return
        try:
            self._tls.send(None).add_done_callback(self._step)
        except StopIteration as end:
            self._finish(end.value)
        except Exception as err:  # noqa: BLE001 - every way in which a handshake can fail
            self._fail(err)
            _forget_frames(err)
            self._end()

    def _finish(self, transport: asyncio.Transport | None) -> None:
        connection = transport.get_extra_info("ssl_object") if transport is not None else None
        # The exact class: an object whose handshake is not complete is of another one.
        if transport is None or type(connection) is not self._verified_class:
            self._fail(ConnectionResetError())
        elif not self._reception.is_lost:
            self._count_success()
            self._hand_over(transport, connection)
        self._end()

    def _end(self) -> None:
        # uvloop keeps the gate as long as the connection: it lets go of what it has used.
        self._tls = self._enter = self._reception = self._transport = None
        self._handshakes.end(self)

    def _hand_over(self, transport: asyncio.Transport, connection: ssl.SSLObject) -> None:
        try:
            # Nothing follows the handshake from us, as tickets would, so the client's last message
            # is acknowledged late; one that waits for that (Nagle) would lose 40 ms.
            set_tcp_option(transport, "TCP_QUICKACK")
            protocol = self._enter(connection, transport, self.address)
            transport.set_protocol(protocol)
            protocol.connection_made(JoinedWrites(transport))
            for data in self._reception.received:
                # The protocol may have put another one, such as HTTP/2's, in its place.
                current: Any = transport.get_protocol()
                current.data_received(data)
        except Exception:  # noqa: BLE001 - the outermost frame of a connection
            transport.abort()
            if _failures.take():
                log.exception("connection of %s failed", self.address)

    def _count_success(self) -> None:
        if metrics.is_enabled():
            count_handshake("ok")
            duration = time.perf_counter() - self._started_at
            metrics.observe(metrics.HANDSHAKE_SECONDS, duration, side="server")

    def _fail(self, err: Exception) -> None:
        result, code, reason = _outcome(err, self._timeout)
        count_handshake(result, code)
        if code == "closed":
            log.debug("handshake of %s: %s", self.address, reason)
        else:
            spiffe_id = getattr(err, "spiffe_id", None)
            log_refusal("handshake", reason, address=self.address, spiffe_id=spiffe_id)


def _forget_frames(err: BaseException | None) -> None:
    """Free what a failed handshake held now, not when the garbage collector comes.

    The frames in the traceback hold the future that holds the error, and with it, under asyncio, a
    quarter of a megabyte of buffer: strangers can fail faster than garbage is collected.
    """
    while err is not None:
        err.__traceback__ = None
        err = err.__cause__ or err.__context__


def _outcome(err: Exception, timeout: float) -> tuple[str, str, str]:
    """Result and reason code for the metrics, and the reason in words."""
    match err:
        case PeerUnauthorizedError():
            return "refused", "unauthorized", err.reason
        case PeerVerificationError():
            return "refused", "unverified", err.reason
        case KubeTLSError():
            return "failed", "source", str(err)
        case ssl.SSLError():
            return "failed", "tls", f"TLS failed: {err.reason or err}"
        case ConnectionAbortedError() | TimeoutError():
            return "failed", "timeout", f"the handshake took longer than {timeout:g} s"
        case OSError():
            return "failed", "closed", "the peer closed the connection"
        case _:
            return "failed", "bug", f"{type(err).__name__}: {err}"


def set_tcp_option(transport: asyncio.BaseTransport, name: str) -> None:
    """Switch a TCP option of a connection on, where it has it."""
    option, connection = getattr(socket, name, None), transport.get_extra_info("socket")
    if option is not None and connection is not None and connection.family in _TCP:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, option, 1)


def peer_address(transport: asyncio.BaseTransport) -> str:
    """The address of the other end, as text for the log."""
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple):
        host, port = name[0], name[1]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return "unix socket"
