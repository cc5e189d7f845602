# SPDX-License-Identifier: Apache-2.0
"""The server's side of HTTP/2, without a socket."""

from __future__ import annotations

import struct

import pytest

from kubetls_sdk.client.xds.http2 import Http2Error, ServerConnection

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 3, 4, 6, 8


def frame(kind, stream=0, payload=b"", flags=0):
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def framed(message):
    return b"\0" + struct.pack(">I", len(message)) + message


def sent(connection):
    """The frames that wait to be sent: kind, flags, stream, payload."""
    data, found = bytes(connection.outgoing), []
    connection.outgoing.clear()
    while data:
        length = int.from_bytes(data[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", data[3:9])
        found.append((kind, flags, stream, data[9 : 9 + length]))
        data = data[9 + length :]
    return found


@pytest.fixture
def connection():
    made = ServerConnection()
    list(made.receive(PREFACE + frame(SETTINGS)))
    sent(made)
    return made


@pytest.fixture
def stream(connection):
    list(connection.receive(frame(HEADERS, 1, b"whatever", flags=4)))
    sent(connection)
    return connection


class TestReceive:
    def test_opening(self):
        """The preface in any pieces is answered with settings and their acknowledgement."""
        made = ServerConnection()
        for byte in PREFACE + frame(SETTINGS):
            assert list(made.receive(bytes([byte]))) == []
        assert [(kind, flags) for kind, flags, *_ in sent(made)] == [(SETTINGS, 0), (SETTINGS, 1)]

    def test_message(self, stream):
        """A message in any pieces arrives once, and what was received is given back as window."""
        data = frame(DATA, 1, framed(b"hello")[:3]) + frame(DATA, 1, framed(b"hello")[3:])
        found = [each for byte in data for each in stream.receive(bytes([byte]))]
        assert found == [(1, b"hello")]
        updates = [(s, p) for kind, _, s, p in sent(stream) if kind == WINDOW_UPDATE]
        for number in (0, 1):
            given = sum(int.from_bytes(p, "big") for s, p in updates if s == number)
            assert given == len(framed(b"hello"))

    def test_several_messages_and_padding(self, stream):
        """A frame may hold several messages, and padding that is none."""
        payload = b"\x02" + framed(b"a") + framed(b"b") + b"\0\0"
        assert list(stream.receive(frame(DATA, 1, payload, flags=8))) == [(1, b"a"), (1, b"b")]

    def test_ping(self, connection):
        """A ping is answered; an answer to one is not."""
        list(connection.receive(frame(PING, payload=b"12345678") + frame(PING, flags=1)))
        assert sent(connection) == [(PING, 1, 0, b"12345678")]

    def test_unknown_frames(self, connection):
        """Frames that mean nothing here are ignored."""
        assert list(connection.receive(frame(2, 1, b"12345") + frame(99, 1, b"x"))) == []
        assert sent(connection) == []

    @pytest.mark.parametrize(
        "data",
        [
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            PREFACE + b"\xff\xff\xff" + b"\0" * 6,
            PREFACE + frame(HEADERS, 1, flags=4) + frame(DATA, 1, b"\x01\0\0\0\0"),
            PREFACE + frame(HEADERS, 1, flags=4) + frame(DATA, 1, b"\0\xff\xff\xff\xff"),
        ],
        ids=["http1", "large-frame", "compressed", "large-message"],
    )
    def test_nonsense(self, data):
        """What a client of ours would never send ends the connection."""
        with pytest.raises(Http2Error):
            list(ServerConnection().receive(data))


class TestSend:
    def test_response(self, connection):
        """A stream is opened with headers, and a message is framed as gRPC does."""
        list(connection.receive(frame(HEADERS, 1, flags=4)))
        connection.send(1, b"hello")
        [(_, _, _, headers), data] = sent(connection)
        assert headers.startswith(b"\x88")
        assert data == (DATA, 0, 1, framed(b"hello"))

    def test_stream_that_is_gone(self, stream):
        """Nothing is sent on a stream that was reset or ended."""
        list(stream.receive(frame(RST_STREAM, 1, b"\0\0\0\0")))
        stream.send(1, b"hello")
        assert sent(stream) == []

    def test_flow_control(self, stream):
        """No more is sent than connection and stream allow, and the rest when they do."""
        message = b"x" * 100_000
        stream.send(1, message)
        first = b"".join(payload for *_, payload in sent(stream))
        assert len(first) == 65535
        more = struct.pack(">I", 50_000)
        list(stream.receive(frame(WINDOW_UPDATE, 0, more)))
        assert sent(stream) == []
        list(stream.receive(frame(WINDOW_UPDATE, 1, more)))
        rest = b"".join(payload for *_, payload in sent(stream))
        assert first + rest == framed(message)

    def test_frame_size(self, stream):
        """No frame is larger than the default limit."""
        stream.send(1, b"x" * 40_000)
        assert max(len(payload) for *_, payload in sent(stream)) == 16384

    def test_initial_window(self, stream):
        """The initial window that the client sets holds for open streams as well."""
        setting = struct.pack(">HI", 4, 10)
        list(stream.receive(frame(SETTINGS, payload=setting)))
        sent(stream)
        stream.send(1, b"x" * 100)
        assert [len(payload) for *_, payload in sent(stream)] == [10]
