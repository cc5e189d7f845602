# SPDX-License-Identifier: Apache-2.0
"""Reads one HTTP/1.1 response from bytes as they arrive. Pure: no socket, no clock.

The parsing is llhttp's, through httptools; the only module that imports it.

Rules:
    1. One reader a response. Bytes after its end are an error of the connection, not a response.
    2. What is not body is bounded: the head, trailers, extensions of chunks. llhttp has no limit.
    3. A body without a length ends with the goodbye of TLS; any other one that ends early, and one
       that ends with TCP alone, is an error: somebody on the way can cut a connection.

Spec: RFC 9112 §6.3, §8, §9.8; RFC 9110 §15.2 (interim responses).
"""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

__all__ = ("DISCONNECTED", "MAX_HEAD_BYTES", "ResponseError", "ResponseReader")

MAX_HEAD_BYTES = 100 * 1024
DISCONNECTED = "Server disconnected without sending a response."
_FIRST_STATUS = 100
_INTERIM = range(_FIRST_STATUS, 200)
_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})


class ResponseError(Exception):
    """What the server sent is not an HTTP/1.1 response, or ends too early."""


class ResponseReader:
    """The state of one response.

    Args:
        is_head_only: Whether the response has no body whatever its headers say (HEAD).

    Attributes:
        status: Status code; 0 until the head is complete.
        reason: Reason phrase.
        version: Such as `b"HTTP/1.1"`.
        headers: Names in the server's case.
        chunks: Body that has arrived and was not taken yet.
        is_complete: Whether the whole response is here.
        keeps_alive: Whether the connection may carry another request; set at the end.
    """

    __slots__ = (
        "_bytes_without_body",
        "_has_length",
        "_is_head_only",
        "_parser",
        "_surplus",
        "buffered",
        "chunks",
        "headers",
        "is_complete",
        "keeps_alive",
        "reason",
        "status",
        "version",
    )

    def __init__(self, *, is_head_only: bool) -> None:
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._is_head_only = is_head_only
        self._bytes_without_body = 0
        self._has_length = False
        self._surplus = False
        self.status = 0
        self.reason = b""
        self.version = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []
        self.buffered = 0
        self.is_complete = False
        self.keeps_alive = False

    def feed(self, received: bytes) -> None:
        """Take bytes from the connection.

        Raises:
            ResponseError: They are not this response.
        """
        parser = self._parser
        if parser is None:
            raise ResponseError("expected no data after the response")
        buffered = self.buffered
        try:
            parser.feed_data(received)
        except HttpParserUpgrade:
            raise ResponseError("expected no switch of protocols") from None
        except HttpParserError as err:
            reason = err.__context__ or err  # what a method of ours raised, or the parser's own
            raise ResponseError(f"malformed response: {reason}") from err
        if self.is_complete:
            self._parser = None  # ends the reference cycle between the two
            self.keeps_alive = self.keeps_alive and not self._surplus
        elif self.buffered == buffered:
            self._bytes_without_body += len(received)
            if self._bytes_without_body > MAX_HEAD_BYTES:
                what = "trailers" if self.status else "a head"
                raise ResponseError(f"expected {what} of at most {MAX_HEAD_BYTES} bytes")
        else:
            self._bytes_without_body = 0

    def feed_eof(self, *, is_authentic: bool = True) -> None:
        """The server has closed the connection.

        Args:
            is_authentic: TLS told so (RFC 9112 §9.8).

        Raises:
            ResponseError: Before the response was complete.
        """
        if self.is_complete:
            return
        self._parser = None
        if not self.status:
            raise ResponseError(DISCONNECTED)
        if self._has_length or not is_authentic:
            raise ResponseError("the server closed the connection before the end of the body")
        self.is_complete = True

    def take(self) -> bytes:
        """Return the body that has arrived since the last call."""
        chunks, self.chunks = self.chunks, []
        self.buffered = 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._surplus = self.is_complete

    def on_status(self, status: bytes) -> None:
        """Called by the parser, perhaps with parts."""
        if not self.is_complete:
            self.reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser, for trailers as well, which are dropped."""
        if not self.status:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        parser = self._parser
        if parser is None or self.is_complete:
            return
        status = parser.get_status_code()
        if status in _INTERIM:
            return
        if status < _FIRST_STATUS:
            raise ResponseError(f"expected a status of 100 or more, got {status}")
        self.status = status
        self.version = b"HTTP/" + parser.get_http_version().encode()
        self._has_length = any(name.lower() in _LENGTHS for name, _ in self.headers)
        if self._is_head_only:
            self._complete(parser)

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        if self.is_complete:  # a body where HEAD allows none
            self._surplus = True
            return
        self.chunks.append(body)
        self.buffered += len(body)

    def on_message_complete(self) -> None:
        """Called by the parser; also at the end of an interim response."""
        parser = self._parser
        if parser is None or self.is_complete:
            return
        if self.status:
            self._complete(parser)
        else:
            self.reason = b""
            self.headers = []

    def _complete(self, parser: HttpResponseParser) -> None:
        self.is_complete = True
        self.keeps_alive = parser.should_keep_alive()
