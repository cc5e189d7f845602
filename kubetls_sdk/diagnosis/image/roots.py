# SPDX-License-Identifier: Apache-2.0
"""The certificates in the bytes of a trust store, whatever its format.

Tolerant where a parser is strict: what another program might believe has to be counted.
"""

from __future__ import annotations

import hashlib
import re
import struct
from base64 import b64decode
from binascii import Error
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("MAX_STORE_BYTES", "UncountableError", "count_embedded", "fingerprints")

MAX_STORE_BYTES = 16 * 1024 * 1024
_BEGIN_LINE = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----")
_END = b"-----END "
_BEGIN = b"-----BEGIN CERTIFICATE-----"
_JKS = (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")
_TRUSTED_CERTIFICATE = 2
_DER_SEQUENCE = b"\x30\x82"
_DER_HEADER = 4


class UncountableError(Exception):
    """It may hold roots, but nobody can tell how many; the text says why."""


def fingerprints(content: bytes) -> frozenset[str]:
    """The SHA-256 of each certificate, in DER, in lower-case hexadecimal.

    Args:
        content: Of a PEM or p11-kit file, a Java keystore, or one certificate in DER.

    Raises:
        UncountableError: It is in another format, or cut off.
    """
    if content.startswith(_JKS):
        found = list(_keystore(content))
    elif content.startswith(_DER_SEQUENCE):
        found = [_whole_certificate(content)]
    else:
        found = [_decoded(block) for block in _blocks(content)]
    if not found and b"\0" in content:
        raise UncountableError("a format that is not known")
    return frozenset(hashlib.sha256(each).hexdigest() for each in found)


def count_embedded(chunks: Iterator[bytes]) -> int:
    """Count PEM certificates within a program, read in pieces."""
    count, rest = 0, b""
    for chunk in chunks:
        text = rest + chunk
        count += text.count(_BEGIN)
        rest = text[-len(_BEGIN) + 1 :]
    return count


def _blocks(content: bytes) -> Iterator[bytes]:
    """The text within each block; in one pass, however many have no end."""
    at = 0
    while begin := _BEGIN_LINE.search(content, at):
        end = content.find(_END, begin.end())
        if end < 0:
            return
        yield content[begin.end() : end]
        at = end


def _decoded(block: bytes) -> bytes:
    """The certificate of a block; of one that cannot be decoded, its text."""
    try:
        der = b64decode(b"".join(block.split()), validate=True)
    except Error:
        return block
    length = _length(der)
    return der[:length] if length else der  # OpenSSL's TRUSTED form has settings behind it


def _whole_certificate(content: bytes) -> bytes:
    """One certificate in DER; a PKCS#12 store begins alike.

    Raises:
        UncountableError: It is something else.
    """
    # A certificate begins with a sequence, a PKCS#12 store with its version number.
    if _length(content) != len(content) or content[_DER_HEADER : _DER_HEADER + 1] != b"\x30":
        raise UncountableError("PKCS#12, or another format that is not opened")
    return content


def _length(der: bytes) -> int | None:
    if not der.startswith(_DER_SEQUENCE) or len(der) < _DER_HEADER:
        return None
    return _DER_HEADER + int.from_bytes(der[2:_DER_HEADER])


def _keystore(content: bytes) -> Iterator[bytes]:
    """The trusted certificates of a Java keystore of type JKS or JCEKS.

    Raises:
        UncountableError: It is cut off, or has keys.
    """
    try:
        version, count = struct.unpack_from(">II", content, 4)
        at = 12
        for _ in range(count):
            (tag,) = struct.unpack_from(">I", content, at)
            if tag != _TRUSTED_CERTIFICATE:
                raise UncountableError("a keystore with keys")
            at = _behind_text(content, at + 4) + 8  # alias, date
            at = _behind_text(content, at) if version > 1 else at  # type
            (length,) = struct.unpack_from(">I", content, at)
            at += 4 + length
            if at > len(content):
                raise UncountableError("a keystore that is cut off")
            yield content[at - length : at]
    except struct.error:
        raise UncountableError("a keystore that is cut off") from None


def _behind_text(content: bytes, at: int) -> int:
    (length,) = struct.unpack_from(">H", content, at)
    return at + 2 + int(length)
