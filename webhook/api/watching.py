# SPDX-License-Identifier: Apache-2.0
"""One watch: the stream of changes that the API server sends on one connection.

Rules:
    1. The API server is asked to end the watch after a minute or so (spread, so that replicas do
       not come back together). One that outlasts this in silence is given up: a half-closed
       connection is never waited on for ever. Bookmarks are no proof of life: the API server
       sends none for a kind that has not changed since its own start.
    2. A half line is kept until its end comes; a stream that breaks off in one is an error.
    3. An ERROR event is raised as the `ApiError` that it carries; 410 as `GoneError`.

Spec: Kubernetes API concepts, "Efficient detection of changes".
"""

from __future__ import annotations

import json
import random
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiohttp

from webhook.api.errors import UnreachableError, error_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from webhook.api.requests import Request
    from webhook.api.transport import Transport

__all__ = ("BOOKMARK", "WatchEvent", "watch")

BOOKMARK: Final = "BOOKMARK"
_SHORTEST: Final = 60
_LONGEST: Final = 90
_GRACE_SECONDS: Final = 15.0
_OPEN_SECONDS: Final = 15.0
_MAX_LINE: Final = 16 * 1024 * 1024
_CHANGES: Final = frozenset({"ADDED", "MODIFIED", "DELETED", BOOKMARK})


class WatchEvent(NamedTuple):
    """One change.

    Attributes:
        type: `ADDED`, `MODIFIED`, `DELETED`, or `BOOKMARK`, whose object has only a version.
        object: The object after the change; before it where it was deleted.
    """

    type: str
    object: dict[str, Any]

    @property
    def resource_version(self) -> str:
        """The version from which a watch goes on after this event."""
        version: str = self.object["metadata"]["resourceVersion"]
        return version


async def watch(
    transport: Transport,
    request: Request,
    resource_version: str,
    *,
    idle_seconds: float | None = None,
) -> AsyncGenerator[WatchEvent, None]:
    """Open a watch and yield its events, a bookmark of the given version first.

    Raises:
        ApiError: The API server ended it with an error, or the connection failed.
    """
    lasts = random.randint(_SHORTEST, _LONGEST)  # noqa: S311 - no secret
    query = {
        **(request.query or {}),
        "watch": "1",
        "resourceVersion": resource_version,
        "allowWatchBookmarks": "true",
        "timeoutSeconds": str(lasts),
    }
    silence = idle_seconds or lasts + _GRACE_SECONDS
    limits = aiohttp.ClientTimeout(total=None, sock_read=silence)
    request = request._replace(query=query)
    async with transport.stream(request, limits, open_seconds=_OPEN_SECONDS) as response:
        yield WatchEvent(BOOKMARK, {"metadata": {"resourceVersion": resource_version}})
        async with aclosing(_lines(response.content, request.what)) as lines:
            async for line in lines:
                yield _event(line, request)


async def _lines(content: aiohttp.StreamReader, what: str) -> AsyncGenerator[bytes, None]:
    """Cut the stream at line ends; an event may be of several chunks, and a chunk of several."""
    rest = bytearray()
    async for chunk in content.iter_any():
        *lines, last = chunk.split(b"\n")
        for line in lines:
            whole = bytes(rest) + line if rest else line
            rest.clear()
            if whole.strip():
                yield whole
        rest += last
        if len(rest) > _MAX_LINE:
            raise UnreachableError(f"{what}: an event is longer than {_MAX_LINE} bytes")
    if rest.strip():
        raise UnreachableError(f"{what}: the stream broke off within an event")


def _event(line: bytes, request: Request) -> WatchEvent:
    try:
        parsed = json.loads(line)
        event = WatchEvent(parsed["type"], parsed["object"])
    except (ValueError, KeyError, TypeError):
        raise UnreachableError(f"{request.what}: expected an event, got something else") from None
    if not isinstance(event.type, str) or not isinstance(event.object, dict):
        raise UnreachableError(f"{request.what}: expected an event of an object")
    if event.type == "ERROR":
        code = event.object.get("code")
        status = code if isinstance(code, int) else 500
        raise error_of(status, event.object, what=request.what, quiet=request.is_quiet)
    if event.type not in _CHANGES or not _has_version(event.object):
        raise UnreachableError(f"{request.what}: expected a change, got {event.type!r}")
    return event


def _has_version(candidate: Mapping[str, Any]) -> bool:
    metadata = candidate.get("metadata")
    return isinstance(metadata, dict) and isinstance(metadata.get("resourceVersion"), str)
