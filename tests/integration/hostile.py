# SPDX-License-Identifier: Apache-2.0
"""Peers that mean harm, many at once, against a server on a loopback port."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from typing import TYPE_CHECKING

from kubetls_sdk.testing import IssuedChain
from tests.integration.serving import stock_context

if TYPE_CHECKING:
    from kubetls_sdk.testing import DevelopmentCA

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: no goodbye


class Hostile:
    """Attackers; those that stay hold their connections until they are closed.

    Args:
        port: Of the server.
        ca: That the server trusts; some attackers have a certificate of it.
    """

    def __init__(self, port: int, ca: DevelopmentCA) -> None:
        self._port = port
        svid = ca.issue("/ns/shop/sa/web")
        padding = tuple(ca.intermediate().certificate for _ in range(99))
        self._member = stock_context(svid, ca.bundle)
        self._long = stock_context(IssuedChain((svid.leaf, *padding), svid.private_key), ca.bundle)
        self._hello = _first_flight(self._member)
        self._held: list[socket.socket] = []

    def stay_silent(self, count: int) -> None:
        """Connect and say nothing."""
        self._held += [self._connect() for _ in range(count)]

    def stall_in_a_record(self, count: int, *, share: float) -> None:
        """Send a part of the first record of a handshake, and stall."""
        part = self._hello[: int(len(self._hello) * share)]
        for _ in range(count):
            self._held.append(self._connect())
            self._held[-1].sendall(part)

    def stall_after_the_handshake(self, count: int) -> None:
        """Prove an identity, send the first half of a record with a request, and stall."""
        for _ in range(count):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls, plain = self._member.wrap_bio(incoming, outgoing), self._connect()
            _shake_hands(tls, incoming, outgoing, plain)
            tls.write(b"GET / HTTP/1.1\r\nhost: orders\r\n\r\n")
            record = outgoing.read()
            plain.sendall(record[: len(record) // 2])
            self._held.append(plain)

    def present_long_chains(self, count: int) -> int:
        """Present a hundred certificates; returns how many of these were let in."""
        let_in = 0
        for _ in range(count):
            with self._connect() as plain, contextlib.suppress(OSError):
                let_in += _is_served(self._long.wrap_socket(plain))
        return let_in

    def reset(self, count: int) -> None:
        """Begin a handshake and reset the connection."""
        for number in range(count):
            with self._connect() as plain:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                plain.sendall(self._hello[: number % len(self._hello)])

    def close(self) -> None:
        """Give up."""
        while self._held:
            self._held.pop().close()

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=20)


def _first_flight(context: ssl.SSLContext) -> bytes:
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


def _shake_hands(
    tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, plain: socket.socket
) -> None:
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            plain.sendall(outgoing.read())
            incoming.write(plain.recv(65536))
        else:
            plain.sendall(outgoing.read())
            return


def _is_served(tls: ssl.SSLSocket) -> bool:
    with tls:
        tls.sendall(b"GET / HTTP/1.1\r\nhost: orders\r\n\r\n")
        return tls.recv(65536) != b""
