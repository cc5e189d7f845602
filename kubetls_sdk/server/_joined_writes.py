# SPDX-License-Identifier: Apache-2.0
"""The head of a response goes out with the body that follows it: one TLS record, one packet.

uvicorn writes the head and the body of a response one after the other, and event loops send each
at once. The second send costs a quarter of what the server does for a small response, and wakes
the client twice. So the head waits for the next write, at most until the event loop has run what
is ready in this turn.

Rules:
    1. The bytes and their order stay as they are; only what begins like the head of an HTTP/1.1
       response waits. Bodies, WebSocket frames and HTTP/2 do not.
    2. Nothing waits longer than the current turn of the event loop, or than `close`.
    3. What goes wrong with the connection meanwhile goes wrong as without us: a transport that is
       closing gets no more bytes.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("JoinedWrites",)

_HEAD = b"HTTP/1.1 "
_MAX_COPIED = 16_384 - 1024
"""Longer bodies are not copied behind their head; they fill records of their own anyway."""


class JoinedWrites:
    """An encrypted transport whose heads wait for their bodies; else the transport itself.

    Args:
        transport: Of one connection, in the running event loop.
    """

    __slots__ = ("_head", "_transport", "_turn", "_write", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._head: bytes | None = None
        self._transport = transport
        self._turn = _turn()
        # Bound here: each request asks for them.
        self._write = transport.write
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: Any) -> None:
        """Write bytes, or keep a head until the next ones or the end of this turn."""
        head = self._head
        if head is not None:
            self._head = None
            if len(data) <= _MAX_COPIED:
                self._write(b"".join((head, data)))
            else:
                self._transport.writelines((head, data))
        elif type(data) is bytes and data.startswith(_HEAD):
            self._head = data
            self._turn.end_with(self)
        else:
            self._write(data)

    def writelines(self, lines: Iterable[Any]) -> None:
        """Write the head, then these."""
        self.flush()
        self._transport.writelines(lines)

    def flush(self) -> None:
        """Let the head go."""
        head = self._head
        if head is not None:
            self._head = None
            if not self.is_closing():
                self._write(head)

    def close(self) -> None:
        """Write what waits, then close."""
        self.flush()
        self._transport.close()

    def get_write_buffer_size(self) -> int:
        """What the transport has not sent, and what waits for it."""
        return self._transport.get_write_buffer_size() + len(self._head or b"")


class _Turn:
    """The current turn of an event loop: at its end heads go out that are still alone."""

    def __init__(self) -> None:
        self._context = contextvars.Context()  # not that of the request which happens to be first
        self._waiting: list[JoinedWrites] = []

    def end_with(self, writes: JoinedWrites) -> None:
        """Flush a transport at the end of this turn."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush, context=self._context)
        self._waiting.append(writes)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for writes in waiting:
            if writes._head is None:  # noqa: SLF001 - as usual: its body has followed
                continue
            try:
                writes.flush()
            except Exception as err:  # noqa: BLE001 - the others have to go out as well
                context = {"message": "writing the head of a response failed", "exception": err}
                asyncio.get_running_loop().call_exception_handler(context)


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turn] = WeakKeyDictionary()


def _turn() -> _Turn:
    """The turns of the running event loop."""
    return _turns.setdefault(asyncio.get_running_loop(), _Turn())
