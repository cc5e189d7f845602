# SPDX-License-Identifier: Apache-2.0
"""`POST /mutate` as an ASGI application, and nothing else.

Rules:
    1. It holds nothing between two requests: any number of replicas may answer.
    2. What is wrong with a request is answered with 4xx and one clause, never with a trace.
    3. Bodies are bounded in bytes, all of them together too, and in time while they arrive.
    4. A large one takes long to read: it waits for the small ones that are there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from kubetls_sdk.server.refusal_log import LogQuota
from webhook.exceptions import ReviewError
from webhook.injection.admission import Outcome, decide
from webhook.injection.bodies import SMALL_BYTES, Bodies
from webhook.injection.metrics import REVIEW_SECONDS, REVIEWS
from webhook.injection.review import MAX_BYTES, parse_review

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from webhook.injection.admission import Platform

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

__all__ = ("InjectorApp",)

_log = logging.getLogger(__name__)
_BODY_SECONDS: Final = 5.0
_MAX_LOGGED: Final = 512
_MAX_BODIES: Final = 24 * 1024 * 1024
_JSON: Final = b"application/json"
_TEXT: Final = b"text/plain; charset=utf-8"


class InjectorApp:
    """The application.

    Args:
        platform: Called for each review; what is in force now.

    Attributes:
        is_draining: Each answer asks the client to make a new connection, to another replica.
    """

    def __init__(self, platform: Callable[[], Platform]) -> None:
        self.is_draining = False
        self._platform = platform
        self._bodies = Bodies(_MAX_BODIES)
        self._large = asyncio.Lock()
        self._lines = LogQuota()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        try:
            content = await self._answer(scope, receive)
        except ReviewError as err:
            REVIEWS.labels("invalid").inc()
            await self._send(send, err.status, _TEXT, str(err).encode("utf-8"))
        except Exception:  # noqa: BLE001 - the outermost frame of a request
            REVIEWS.labels("failed").inc()
            _log.exception("an admission review failed")
            await self._send(send, 500, _TEXT, b"internal error")
        else:
            await self._send(send, 200, _JSON, content)

    async def _answer(self, scope: Message, receive: Receive) -> bytes:
        _check_head(scope)
        with self._bodies.arriving() as take:
            body = await _body(receive, take)
            if len(body) <= SMALL_BYTES:
                return self._decided(body)
            async with self._large:
                await asyncio.sleep(0)  # Small ones come first.
                return self._decided(body)

    def _decided(self, body: bytes) -> bytes:
        start = time.perf_counter()
        review = parse_review(body)
        outcome, answer = decide(review, self._platform())
        content = answer.to_json(review.uid)
        REVIEWS.labels(outcome.value).inc()
        REVIEW_SECONDS.observe(time.perf_counter() - start)
        if outcome is Outcome.DENIED:
            self._tell(review.namespace, answer.message or "")
        return content

    def _tell(self, namespace: str, reason: str) -> None:
        if not self._lines.take():
            return
        missed, self._lines.suppressed = self._lines.suppressed, 0
        more = f" ({missed} more such lines were not written)" if missed else ""
        _log.info("namespace %s: a pod was refused: %s%s", namespace, reason[:_MAX_LOGGED], more)

    async def _send(self, send: Send, status: int, content_type: bytes, body: bytes) -> None:
        headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
        # The rest of a refused body may still be on its way.
        if self.is_draining or status != 200:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _check_head(scope: Message) -> None:
    if scope["path"] != "/mutate":
        raise ReviewError("expected the path /mutate", status=404)
    if scope["method"] != "POST":
        raise ReviewError("expected POST", status=405)
    headers = dict(scope["headers"])
    content_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if content_type != _JSON:
        raise ReviewError("expected content-type application/json", status=415)
    if b"content-encoding" in headers:
        raise ReviewError("expected no content-encoding", status=415)
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length[:20]) > MAX_BYTES:
        raise ReviewError(f"expected at most {MAX_BYTES} bytes", status=413)


async def _body(receive: Receive, take: Callable[[bytes], None]) -> bytes:
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            return await _received(receive, take)
    except TimeoutError:
        raise ReviewError("expected the body sooner", status=408) from None


async def _received(receive: Receive, take: Callable[[bytes], None]) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ReviewError("expected a complete body")
        parts.append(message.get("body", b""))
        take(parts[-1])
        if not message.get("more_body", False):
            return b"".join(parts)
