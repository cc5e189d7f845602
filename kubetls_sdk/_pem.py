# SPDX-License-Identifier: Apache-2.0
"""PEM text to labelled DER blocks, strictly: what looks like a block is one, or it is an error.

Text between blocks is tolerated (RFC 7468 §2); headers inside a block are not, but for the legacy
encryption header, which gets an error of its own.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

__all__ = ("PemBlock", "PemSyntaxError", "blocks", "encode")

_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----[ \t]*\r?\n")
_MAX_BYTES = 4 * 1024 * 1024


class PemSyntaxError(ValueError):
    """A text is not well-formed PEM; the message never quotes the content."""


@dataclass(frozen=True, slots=True, repr=False)
class PemBlock:
    """One block: its label (`CERTIFICATE`, `PRIVATE KEY`) and the decoded bytes."""

    label: str
    der: bytes

    def __repr__(self) -> str:
        return f"PemBlock({self.label!r}, {len(self.der)} bytes)"


def blocks(text: bytes) -> list[PemBlock]:
    """Split PEM text into its blocks, in order; a text without any gives an empty list.

    Raises:
        PemSyntaxError: A block is cut off, has headers, is encrypted or is not base64.
    """
    if len(text) > _MAX_BYTES:
        raise PemSyntaxError(f"expected at most {_MAX_BYTES} bytes of PEM, got {len(text)}")
    found: list[PemBlock] = []
    position = 0
    while begin := _BEGIN.search(text, position):
        if b"-----BEGIN" in text[position : begin.start()]:
            break  # A malformed BEGIN line before this good one: reported below.
        label = begin[1].decode("ascii")
        end_line = b"-----END " + begin[1] + b"-----"
        end = text.find(end_line, begin.end())
        if end < 0:
            raise PemSyntaxError(f"block {len(found) + 1} ({label}) is cut off before its END line")
        found.append(PemBlock(label, _decode(text[begin.end() : end], label, len(found) + 1)))
        position = end + len(end_line)
    rest = text[position:]
    if b"-----BEGIN" in rest or _is_begun(rest.rpartition(b"\n")[2]):
        raise PemSyntaxError(f"block {len(found) + 1} has a malformed BEGIN line")
    return found


def encode(label: str, der: bytes) -> bytes:
    """Encode one block with 64-character lines (RFC 7468 §2)."""
    body = base64.b64encode(der)
    lines = [body[i : i + 64] for i in range(0, len(body), 64)]
    name = label.encode("ascii")
    return b"\n".join([b"-----BEGIN %b-----" % name, *lines, b"-----END %b-----" % name, b""])


def _is_begun(last_line: bytes) -> bool:
    """Whether a text ends within the first characters of a BEGIN line: a half-written file."""
    return bool(last_line) and b"-----BEGIN".startswith(last_line)


def _decode(body: bytes, label: str, number: int) -> bytes:
    if b"ENCRYPTED" in body and b":" in body:
        raise PemSyntaxError(f"block {number} ({label}) is encrypted; expected an unencrypted key")
    if b":" in body:
        raise PemSyntaxError(f"block {number} ({label}) has headers; expected base64 only")
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        raise PemSyntaxError(f"block {number} ({label}) is not valid base64") from None
