# SPDX-License-Identifier: Apache-2.0
"""The server's side of HTTP/2 as far as gRPC's xDS client needs it; no sockets.

Rules:
    1. There is one service and one method, so header blocks are not read.
    2. Flow control is obeyed in both directions.
    3. Whatever a client of ours would not send ends the connection.

Spec: RFC 9113; gRPC over HTTP/2.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Http2Error", "ServerConnection")

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK = _END_STREAM = 0x1
_END_HEADERS, _PADDED = 0x4, 0x8
_INITIAL_WINDOW_SIZE = 4
_WINDOW = 65535
_MAX_FRAME = 16384
_MAX_MESSAGE = 1 << 20
# `:status: 200` and `content-type: application/grpc`, in HPACK without a dynamic table.
_RESPONSE_HEADERS = b"\x88\x0f\x10\x10application/grpc"


class Http2Error(Exception):
    """The other end does not speak as it should; the connection has to be closed."""


class ServerConnection:
    """One connection; feed it with what was received, send what it has to say.

    Attributes:
        outgoing: Bytes to send; the owner clears them.
    """

    def __init__(self) -> None:
        self.outgoing = bytearray(_frame(_SETTINGS, 0, 0, b""))
        self._incoming = bytearray()
        self._has_preface = False
        self._window = _WINDOW
        self._stream_window = _WINDOW
        self._streams: dict[int, _Stream] = {}

    def receive(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Take what was received; yields stream number and content of each gRPC message.

        Raises:
            Http2Error: Close the connection.
        """
        self._incoming += data
        if not self._has_preface:
            if len(self._incoming) < len(_PREFACE):
                return
            if not self._incoming.startswith(_PREFACE):
                raise Http2Error("expected the preface of HTTP/2")
            del self._incoming[: len(_PREFACE)]
            self._has_preface = True
        while (frame := self._next_frame()) is not None:
            yield from self._take(*frame)

    def send(self, stream: int, message: bytes) -> None:
        """Send a gRPC message on a stream, as soon as its client allows."""
        if stream in self._streams:
            self._streams[stream].waiting += b"\x00" + struct.pack(">I", len(message)) + message
            self._flush()

    def _next_frame(self) -> tuple[int, int, int, bytes] | None:
        if len(self._incoming) < 9:
            return None
        length = int.from_bytes(self._incoming[:3], "big")
        if length > _MAX_FRAME:
            raise Http2Error("expected a frame of at most 16,384 bytes")
        if len(self._incoming) < 9 + length:
            return None
        kind, flags, stream = struct.unpack(">BBI", self._incoming[3:9])
        payload = bytes(self._incoming[9 : 9 + length])
        del self._incoming[: 9 + length]
        return kind, flags, stream & 0x7FFFFFFF, payload

    def _take(
        self, kind: int, flags: int, stream: int, payload: bytes
    ) -> Iterator[tuple[int, bytes]]:
        if kind == _DATA:
            yield from self._data(flags, stream, payload)
        elif kind == _HEADERS:
            self._open(stream)
        elif kind == _RST_STREAM:
            self._streams.pop(stream, None)
        elif kind == _PING and not flags & _ACK:
            self.outgoing += _frame(_PING, _ACK, 0, payload)
        elif kind == _SETTINGS and not flags & _ACK:
            self._apply(payload)
            self.outgoing += _frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _WINDOW_UPDATE:
            self._widen(stream, int.from_bytes(payload, "big"))

    def _apply(self, settings: bytes) -> None:
        for start in range(0, len(settings) - 5, 6):
            name, value = struct.unpack_from(">HI", settings, start)
            if name == _INITIAL_WINDOW_SIZE:
                for stream in self._streams.values():
                    stream.window += value - self._stream_window
                self._stream_window = value
        self._flush()

    def _widen(self, number: int, more: int) -> None:
        if number == 0:
            self._window += more
        elif number in self._streams:
            self._streams[number].window += more
        self._flush()

    def _open(self, number: int) -> None:
        if number not in self._streams:
            self._streams[number] = _Stream(self._stream_window)
            self.outgoing += _frame(_HEADERS, _END_HEADERS, number, _RESPONSE_HEADERS)

    def _data(self, flags: int, number: int, payload: bytes) -> Iterator[tuple[int, bytes]]:
        stream = self._streams.get(number)
        if payload:
            more = struct.pack(">I", len(payload))
            self.outgoing += _frame(_WINDOW_UPDATE, 0, 0, more)
            if stream is not None:
                self.outgoing += _frame(_WINDOW_UPDATE, 0, number, more)
        if stream is None:
            return  # It was reset meanwhile.
        if flags & _PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        for message in stream.receive(payload):
            yield number, message
        if flags & _END_STREAM:
            self._streams.pop(number, None)

    def _flush(self) -> None:
        for number, stream in self._streams.items():
            while (size := min(len(stream.waiting), self._window, stream.window, _MAX_FRAME)) > 0:
                self.outgoing += _frame(_DATA, 0, number, bytes(stream.waiting[:size]))
                del stream.waiting[:size]
                self._window -= size
                stream.window -= size


class _Stream:
    """One call: what was received of it, and what waits to be sent on it."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.waiting = bytearray()
        self._received = bytearray()

    def receive(self, payload: bytes) -> Iterator[bytes]:
        """Take a part of the gRPC framing; yields whole messages."""
        received = self._received
        received += payload
        while len(received) >= 5:
            length = int.from_bytes(received[1:5], "big")
            if received[0] or length > _MAX_MESSAGE:
                raise Http2Error("expected an uncompressed message of at most 1 MiB")
            if len(received) < 5 + length:
                break
            message = bytes(received[5 : 5 + length])
            del received[: 5 + length]
            yield message


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload
