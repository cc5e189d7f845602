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
import ssl
import time
from typing import TYPE_CHECKING, Any

from kubetls_sdk import metrics
from kubetls_sdk._verifying import VerifyingSSLObject
from kubetls_sdk.exceptions import KubeTLSError, PeerError, PeerUnauthorizedError
from kubetls_sdk.server.refusal_log import count_handshake, log, log_refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from uvicorn.server import ServerState

    from kubetls_sdk.server._handshakes import Handshakes

__all__ = ("Gate", "peer_address")

_SHUTDOWN_SECONDS = 5.0


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
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        handshakes: Handshakes,
        server_state: ServerState,
        timeout: float,
        enter: Callable[[VerifyingSSLObject, asyncio.Transport, str], asyncio.Protocol],
    ) -> None:
        self.address = "?"
        self._context = context
        self._handshakes = handshakes
        self._server_state = server_state
        self._timeout = timeout
        self._enter = enter
        self._transport: Any = None
        self._task: asyncio.Task[None] | None = None
        self._started_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._transport = transport
        self._started_at = time.perf_counter()
        self.address = peer_address(transport)
        self._transport.pause_reading()  # until TLS reads
        self._handshakes.begin(self, self._server_state)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def data_received(self, data: bytes) -> None:
        """Never happens, since the gate does not read; if it does, nothing of it is used."""
        del data
        self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        self._handshakes.end(self)
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()

    async def _run(self) -> None:
        try:
            await self._admit()
        except PeerError as err:
            self._refuse(err)
        except ssl.SSLError as err:
            self._fail("tls", f"TLS failed: {err.reason or err}")
        except (ConnectionAbortedError, TimeoutError):
            self._fail("timeout", f"the handshake took longer than {self._timeout:g} s")
        except OSError:
            self._fail("closed", "the peer closed the connection during the handshake")
        except KubeTLSError as err:  # our own credentials are gone
            self._fail("source", str(err))
        except Exception:  # noqa: BLE001 - the outermost frame of a connection
            log.exception("connection of %s failed", self.address)
        finally:
            self._handshakes.end(self)
            self._task = None

    async def _admit(self) -> None:
        loop, reception = asyncio.get_running_loop(), Reception()
        transport = await loop.start_tls(
            self._transport,
            reception,
            self._context,
            server_side=True,
            ssl_handshake_timeout=self._timeout,
            ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
        )
        connection = transport.get_extra_info("ssl_object") if transport is not None else None
        # The exact class: an object whose handshake is not complete is of another one.
        if type(connection) is not VerifyingSSLObject:
            raise ConnectionResetError
        self._count_success()
        if transport is not None and not reception.is_lost:
            self._hand_over(transport, connection, reception)

    def _hand_over(
        self, transport: asyncio.Transport, connection: VerifyingSSLObject, reception: Reception
    ) -> None:
        try:
            protocol = self._enter(connection, transport, self.address)
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
            for data in reception.received:
                # The protocol may have put another one, such as HTTP/2's, in its place.
                current: Any = transport.get_protocol()
                current.data_received(data)
        except BaseException:
            transport.abort()
            raise

    def _count_success(self) -> None:
        if metrics.is_enabled():
            count_handshake("ok")
            duration = time.perf_counter() - self._started_at
            metrics.observe(metrics.HANDSHAKE_SECONDS, duration, side="server")

    def _refuse(self, err: PeerError) -> None:
        is_unauthorized = isinstance(err, PeerUnauthorizedError)
        count_handshake("refused", "unauthorized" if is_unauthorized else "unverified")
        reason, spiffe_id = getattr(err, "reason", str(err)), getattr(err, "spiffe_id", None)
        log_refusal("handshake", reason, address=self.address, spiffe_id=spiffe_id)

    def _fail(self, code: str, reason: str) -> None:
        count_handshake("failed", code)
        log_refusal("handshake", reason, address=self.address)


def peer_address(transport: asyncio.BaseTransport) -> str:
    """The address of the other end, as text for the log."""
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple):
        host, port = name[0], name[1]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return "unix socket"
