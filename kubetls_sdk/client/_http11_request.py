# SPDX-License-Identifier: Apache-2.0
"""The bytes of an HTTP/1.1 request head, from what a client wants to send.

Pure. Refuses what would be more than one request on the wire.

Rules:
    1. Names, values, method and target are checked against the grammar: no line break gets through.
    2. The head says how long the body is, in exactly one way.

Spec: RFC 9112 §3, §5, §6; RFC 9110 §5.5, §5.6.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("CHUNKED", "RequestHead", "RequestHeadError", "encode_head")

CHUNKED = -1
_SPECIAL = frozenset({b"content-length", b"host", b"transfer-encoding", b"upgrade"})
_MAX_KNOWN_NAMES = 1000
_lower_case: dict[bytes, bytes] = {}

_token = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_target = re.compile(rb"[\x21-\x7e\x80-\xff]+").fullmatch
_digits = re.compile(rb"[0-9]{1,18}").fullmatch


class RequestHeadError(ValueError):
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
        RequestHeadError: Something breaks the grammar or the framing is ambiguous.
    """
    if not _token(method) or not _target(target):
        raise RequestHeadError(f"expected a method and a target, got {method!r} {target!r}")
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
        raise RequestHeadError("expected one line of text in each header, got a line break")
    if len(special.get(b"host", ())) != 1:
        raise RequestHeadError(f"expected one Host header, got {len(special.get(b'host', ()))}")
    return RequestHead(encoded, _body_length(special), b"upgrade" in special)


def _checked_name(name: bytes) -> bytes:
    """The name in lower case; names repeat, so what was found is kept."""
    if not _token(name):
        raise RequestHeadError(f"expected a header name, got {name!r}")
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
    raise RequestHeadError("expected one Content-Length or 'Transfer-Encoding: chunked'")
