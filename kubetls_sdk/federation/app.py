# SPDX-License-Identifier: Apache-2.0
"""Our bundle endpoint as an ASGI application, to mount in an application that serves the public.

    from kubetls_sdk.federation.app import bundle_endpoint

    app.mount("/.well-known/spiffe-bundle", bundle_endpoint(source))

Rules:
    1. It authenticates nobody and must not be behind something that does (§5.2.1.3); a policy has
       to allow everybody, `anonymous` included, to GET it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubetls_sdk.federation.publication import Publication

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from kubetls_sdk.source import Source

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

__all__ = ("bundle_endpoint",)


def bundle_endpoint(source: Source, **options: Any) -> Application:
    """Make the application.

    Args:
        source: Whose own trust domain's bundle is published.
        **options: Of `Publication`: `refresh_hint`, `sequence`, `allow_empty`.

    Raises:
        ConfigurationError: An option is out of range.
    """
    publication = Publication(source, **options)

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer, and refuse WebSockets."""
        if scope["type"] == "http":
            await _answer(publication, scope, send)
        elif scope["type"] == "lifespan":
            await _live(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    return app


async def _answer(publication: Publication, scope: MutableMapping[str, Any], send: Send) -> None:
    fields = [value for name, value in scope["headers"] if name == b"if-none-match"]
    condition = b",".join(fields).decode("latin-1") if fields else None
    answer = publication.answer(scope["method"], condition)
    headers = {**answer.headers, "content-length": str(len(answer.body))}
    if answer.status == 304:
        del headers["content-length"]  # It would be that of the document (RFC 9110 §8.6).
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
    )
    body = b"" if scope["method"] == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body})


async def _live(receive: Receive, send: Send) -> None:
    """For a server that serves nothing but this."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
