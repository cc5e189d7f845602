# SPDX-License-Identifier: Apache-2.0
"""Writes and reads the few protocol buffer messages that xDS needs.

Generated code for xDS is a large dependency with a version conflict in waiting; what is sent here
are a dozen fields of messages whose numbers never change.

Spec: Protocol Buffers, "Encoding".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Value", "any_of", "fields", "message")

Value: TypeAlias = "int | str | bytes | list[Value]"

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


def message(content: dict[int, Value]) -> bytes:
    """Encode a message.

    Args:
        content: Field number to an integer, a text, the bytes of an embedded message, or a list
            of them for a repeated field.
    """
    return b"".join(_field(number, value) for number, value in content.items())


def any_of(type_url: str, content: dict[int, Value]) -> bytes:
    """Encode a message inside of a `google.protobuf.Any`."""
    return message({1: type_url, 2: message(content)})


def fields(encoded: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Read the fields of a message: number, and an integer or the bytes of everything else.

    Raises:
        ValueError: It is not a message.
    """
    position = 0
    while position < len(encoded):
        key, position = _read_varint(encoded, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            value, position = _read_varint(encoded, position)
            yield number, value
            continue
        if wire_type == _LENGTH:
            length, position = _read_varint(encoded, position)
        elif wire_type in (_FIXED32, _FIXED64):
            length = 4 if wire_type == _FIXED32 else 8
        else:
            raise ValueError(f"expected a known wire type, got {wire_type}")
        if position + length > len(encoded):
            raise ValueError("expected a whole message, got a part")
        yield number, encoded[position : position + length]
        position += length


def _field(number: int, value: Value) -> bytes:
    if isinstance(value, list):
        return b"".join(_field(number, item) for item in value)
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | _LENGTH) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_varint(encoded: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        if position + index >= len(encoded):
            break
        byte = encoded[position + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError("expected a whole integer")
