# SPDX-License-Identifier: Apache-2.0
"""Keeps header fields that tell an identity out of answers to the public."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubetls_sdk.server.identity_headers import without_identity

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("discreet",)


def discreet(app: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an ASGI application: no message of its answers has such a field, trailers included."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        async def send_without(message: Any) -> None:
            if message.get("headers"):
                message = {**message, "headers": without_identity(message["headers"])}
            await send(message)

        await app(scope, receive, send_without)

    return answer
