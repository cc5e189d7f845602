# SPDX-License-Identifier: Apache-2.0
"""One response from bytes, whole or in any parts."""

from __future__ import annotations

import gc
import weakref

import pytest

from kubetls_sdk.client._http11_response import MAX_HEAD_BYTES, ResponseError, ResponseReader

OK = b"HTTP/1.1 200 OK\r\nX-Case: Kept\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\nab\r\n1;ext=1\r\nc\r\n0\r\nX-Trailer: 1\r\n\r\n"
)


def read(*parts, is_head_only=False, eof=False):
    reader = ResponseReader(is_head_only=is_head_only)
    for part in parts:
        reader.feed(part)
    if eof:
        reader.feed_eof()
    return reader


def in_bytes(response):
    return [response[i : i + 1] for i in range(len(response))]


class TestFeed:
    @pytest.mark.parametrize("cut", [lambda r: [r], in_bytes], ids=["whole", "byte-by-byte"])
    def test_length(self, cut):
        """A response with a length is complete at its end, however it arrives."""
        reader = read(*cut(OK))
        assert (reader.status, reader.reason, reader.version) == (200, b"OK", b"HTTP/1.1")
        assert reader.headers == [(b"X-Case", b"Kept"), (b"Content-Length", b"2")]
        assert reader.take() == b"ok"
        assert reader.is_complete
        assert reader.keeps_alive

    @pytest.mark.parametrize("cut", [lambda r: [r], in_bytes], ids=["whole", "byte-by-byte"])
    def test_chunked(self, cut):
        """Chunks are joined; extensions and trailers are dropped."""
        reader = read(*cut(CHUNKED))
        assert reader.take() == b"abc"
        assert reader.headers == [(b"Transfer-Encoding", b"chunked")]
        assert reader.is_complete

    def test_take_empties(self):
        """What was taken is not handed out again."""
        reader = read(OK)
        assert reader.buffered == 2
        assert reader.take() == b"ok"
        assert reader.take() == b""
        assert reader.buffered == 0

    @pytest.mark.parametrize("status", [204, 304])
    def test_without_body(self, status):
        """A status that has no body is complete with its head, whatever the head says."""
        reader = read(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status)
        assert reader.is_complete

    def test_head(self):
        """The answer to HEAD is complete with its head."""
        reader = read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", is_head_only=True)
        assert reader.is_complete
        assert reader.keeps_alive

    def test_body_where_head_allows_none(self):
        """A server that sends one all the same is not trusted with another request."""
        reader = read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", is_head_only=True)
        assert reader.take() == b""
        assert not reader.keeps_alive

    def test_interim_responses(self):
        """Interim responses are skipped, with their headers."""
        reader = read(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK
        )
        assert (reader.status, reader.reason, len(reader.headers)) == (200, b"OK", 2)

    @pytest.mark.parametrize(
        "head",
        [b"HTTP/1.1 200 OK\r\nConnection: close\r\n", b"HTTP/1.0 200 OK\r\n"],
        ids=["close", "http-1.0"],
    )
    def test_last_on_its_connection(self, head):
        """A server that will close says so."""
        assert not read(head + b"Content-Length: 0\r\n\r\n").keeps_alive

    def test_parser_goes_with_the_response(self):
        """A complete response leaves no reference cycle for the garbage collector."""
        gc.disable()
        try:
            reader = read(OK)
            gone = weakref.ref(reader._parser) if reader._parser is not None else lambda: None
            assert gone() is None
        finally:
            gc.enable()


class TestSurplus:
    def test_in_the_same_packet(self):
        """A second response that nobody asked for is dropped, and ends the connection."""
        reader = read(OK + OK.replace(b"200", b"500").replace(b"ok", b"no"))
        assert (reader.status, reader.take()) == (200, b"ok")
        assert not reader.keeps_alive

    def test_later(self):
        """Data after the response is an error."""
        reader = read(OK)
        with pytest.raises(ResponseError, match="expected no data after the response"):
            reader.feed(OK)


class TestRefuse:
    @pytest.mark.parametrize(
        "response",
        [
            pytest.param(b"\x16\x03\x01\x02\x00\x01", id="tls"),
            pytest.param(b"SSH-2.0-OpenSSH\r\n", id="ssh"),
            pytest.param(b"HTTP/9.9 200 OK\r\n\r\n", id="version"),
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", id="length"),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", id="lengths"
            ),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                id="length-and-chunked",
            ),
            pytest.param(b"HTTP/1.1 200 OK\r\nA b: c\r\n\r\n", id="name"),
            pytest.param(b"HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n", id="nul"),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="chunk-size"
            ),
            pytest.param(
                b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", id="upgrade"
            ),
        ],
    )
    def test_not_this_response(self, response):
        """What is not an HTTP/1.1 response to a plain request is an error."""
        with pytest.raises(ResponseError):
            read(response)

    @pytest.mark.parametrize(
        "part",
        [
            pytest.param(b"X: " + b"a" * 995 + b"\r\n", id="headers"),
            pytest.param(b"a" * 1000, id="one-name"),
            pytest.param(b"\r\nHTTP/1.1 102 Processing\r\n", id="interim-responses"),
        ],
    )
    def test_endless_head(self, part):
        """A head without end is cut off."""
        reader = read(b"HTTP/1.1 100 OK\r\n")
        with pytest.raises(ResponseError, match="expected a head of at most"):
            _feed_for_ever(reader, part)


class TestEof:
    def test_before_the_response(self):
        """A server that closes without an answer is an error."""
        with pytest.raises(ResponseError, match="without sending a response"):
            read(eof=True)

    @pytest.mark.parametrize("response", [OK[:-1], CHUNKED[:-2]], ids=["length", "chunked"])
    def test_in_the_body(self, response):
        """A body that ends before its end is an error, never a short success."""
        with pytest.raises(ResponseError, match="before the end of the body"):
            read(response, eof=True)

    def test_ends_a_body_without_length(self):
        """A body without a length ends with the connection, which is not used again."""
        reader = read(b"HTTP/1.1 200 OK\r\n\r\nab", b"c", eof=True)
        assert reader.take() == b"abc"
        assert reader.is_complete
        assert not reader.keeps_alive


def _feed_for_ever(reader, part):
    for _ in range(2 + MAX_HEAD_BYTES // len(part)):
        reader.feed(part)
