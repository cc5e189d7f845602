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
    from collections.abc import Sequence

__all__ = ("CHUNKED", "RequestHead", "RequestHeadError", "encode_head")

CHUNKED = -1

_token = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_value = re.compile(rb"[^\x00\r\n]*").fullmatch
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
    """

    encoded: bytes
    body_length: int


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
    framing: list[tuple[bytes, bytes]] = []
    hosts = 0
    for name, value in headers:
        if not _token(name) or not _value(value):
            raise RequestHeadError(f"expected a header name and one line of text, got {name!r}")
        lines.append(b"%b: %b" % (name, value))
        lower = name.lower()
        if lower in (b"content-length", b"transfer-encoding"):
            framing.append((lower, value))
        elif lower == b"host":
            hosts += 1
    if hosts != 1:
        raise RequestHeadError(f"expected one Host header, got {hosts}")
    lines.append(b"\r\n")
    return RequestHead(b"\r\n".join(lines), _body_length(framing))


def _body_length(framing: list[tuple[bytes, bytes]]) -> int:
    if not framing:
        return 0
    name, value = framing[0]
    if len(framing) == 1 and name == b"content-length" and _digits(value):
        return int(value)
    if len(framing) == 1 and name == b"transfer-encoding" and value.lower() == b"chunked":
        return CHUNKED
    raise RequestHeadError("expected one Content-Length or 'Transfer-Encoding: chunked'")
