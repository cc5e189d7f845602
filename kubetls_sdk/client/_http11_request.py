# SPDX-License-Identifier: Apache-2.0
"""The bytes of an HTTP/1.1 request, from what a client wants to send.

Pure. Refuses what would be more than one request on the wire.

Rules:
    1. Names, values, method and target are checked against the grammar: no line break gets through.
    2. The head says how long the body is, in exactly one way, and the body is that long.

Spec: RFC 9112 §3, §5, §6; RFC 9110 §5.5, §5.6.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence

__all__ = (
    "CHUNKED",
    "SLICE_BYTES",
    "RequestError",
    "RequestHead",
    "check_length",
    "encode_body",
    "encode_head",
)

CHUNKED = -1
SLICE_BYTES = 64 * 1024
_SPECIAL = frozenset({b"content-length", b"host", b"transfer-encoding", b"upgrade"})
_MAX_KNOWN_NAMES = 1000
_lower_case: dict[bytes, bytes] = {}

_token = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_target = re.compile(rb"[\x21-\x7e\x80-\xff]+").fullmatch
_digits = re.compile(rb"[0-9]{1,18}").fullmatch


class RequestError(ValueError):
    """The request cannot be written as one HTTP/1.1 message."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """An encoded request head.

    Attributes:
        encoded: Request line and headers with the blank line.
        body_length: Bytes of the body that must follow, or `CHUNKED`.
        asks_for_upgrade: Whether the answer may be another protocol.
    """

    encoded: bytes
    body_length: int
    asks_for_upgrade: bool = False


def encode_head(
    method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]
) -> RequestHead:
    """Encode a request head.

    Args:
        method: Such as `b"GET"`.
        target: The request target in origin form.
        headers: In the order and case to send them; with exactly one Host.

    Raises:
        RequestError: Something breaks the grammar or the framing is ambiguous.
    """
    if not _token(method) or not _target(target):
        raise RequestError(f"expected a method and a target, got {method!r} {target!r}")
    lines = [b"%b %b HTTP/1.1" % (method, target)]
    special: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        lower = _lower_case.get(name) or _checked_name(name)
        if lower in _SPECIAL:
            special.setdefault(lower, []).append(value)
        lines.append(b"%b: %b" % (name, value))
    encoded = b"\r\n".join(lines) + b"\r\n\r\n"
    breaks = len(lines) + 1
    if encoded.count(b"\r") != breaks or encoded.count(b"\n") != breaks or b"\0" in encoded:
        raise RequestError("expected one line of text in each header, got a line break")
    if len(special.get(b"host", ())) != 1:
        raise RequestError(f"expected one Host header, got {len(special.get(b'host', ()))}")
    return RequestHead(encoded, _body_length(special), b"upgrade" in special)


async def encode_body(
    body: AsyncIterable[bytes] | bytes, length: int
) -> AsyncGenerator[bytes, None]:
    """Encode a body in parts so small that a transport's buffer tells when it is full.

    Args:
        body: Whole, or in parts of any size.
        length: As in the head, or `CHUNKED`.

    Raises:
        RequestError: It is not as long as promised.
    """
    sent = 0
    async for part in _slices(body):
        sent += len(part)
        check_length(sent, length, is_end=False)
        yield b"%x\r\n%b\r\n" % (len(part), part) if length == CHUNKED else part
    check_length(sent, length)
    if length == CHUNKED:
        yield b"0\r\n\r\n"


def check_length(sent: int, promised: int, *, is_end: bool = True) -> None:
    """Compare what was sent so far with what the head promised.

    Raises:
        RequestError: It is more or, at the end, less.
    """
    if promised != CHUNKED and (sent > promised or (is_end and sent < promised)):
        raise RequestError(f"expected a body of {promised} bytes, got {sent}")


async def _slices(body: AsyncIterable[bytes] | bytes) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        for start in range(0, len(body), SLICE_BYTES):
            yield body[start : start + SLICE_BYTES]
        return
    async for part in body:
        for start in range(0, len(part), SLICE_BYTES):
            yield part[start : start + SLICE_BYTES]


def _checked_name(name: bytes) -> bytes:
    """The name in lower case; names repeat, so what was found is kept."""
    if not _token(name):
        raise RequestError(f"expected a header name, got {name!r}")
    lower = name.lower()
    if len(_lower_case) < _MAX_KNOWN_NAMES:
        _lower_case[name] = lower
    return lower


def _body_length(special: Mapping[bytes, Sequence[bytes]]) -> int:
    lengths, encodings = special.get(b"content-length", ()), special.get(b"transfer-encoding", ())
    if not lengths and not encodings:
        return 0
    if not encodings and len(lengths) == 1 and _digits(lengths[0]):
        return int(lengths[0])
    if not lengths and len(encodings) == 1 and encodings[0].lower() == b"chunked":
        return CHUNKED
    raise RequestError("expected one Content-Length or 'Transfer-Encoding: chunked'")
