# SPDX-License-Identifier: Apache-2.0
"""An open WebSocket that the server can end when its peer is not trusted any more."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from kubetls_sdk.server.refusal import POLICY_VIOLATION

__all__ = ("WebSocketSession",)


class WebSocketSession:
    """The sending side of one WebSocket.

    Args:
        send: The server's `send`.
    """

    __slots__ = ("_is_ended", "_send", "_task")

    def __init__(self, send: Any) -> None:
        self._send = send
        self._is_ended = False
        self._task: asyncio.Task[None] | None = None

    def send(self, message: Any) -> Any:
        """Send for the application; once ended, as if the client had gone away.

        Raises:
            OSError: The session was ended by the server.
        """
        if self._is_ended:
            raise ConnectionResetError("the WebSocket was closed: its peer is not trusted any more")
        return self._send(message)

    def end(self, reason: str) -> None:
        """Close with code 1008; the reason stays with us."""
        del reason
        if not self._is_ended:
            self._is_ended = True
            self._task = asyncio.get_running_loop().create_task(self._close())

    async def _close(self) -> None:
        # The application may have closed it, or the client: then there is nothing to close.
        with contextlib.suppress(RuntimeError, OSError):
            await self._send({"type": "websocket.close", "code": POLICY_VIOLATION})
