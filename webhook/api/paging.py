# SPDX-License-Identifier: Apache-2.0
"""A list of objects, read page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from webhook.api.requests import list_request

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from webhook.api.resources import Resource
    from webhook.api.transport import Transport

__all__ = ("PAGE_SIZE", "ObjectList", "pages")

PAGE_SIZE = 500
_PAGE_SECONDS = 60.0


class ObjectList(NamedTuple):
    """Objects, and the resource version from which a watch goes on without a gap."""

    items: list[dict[str, Any]]
    resource_version: str


async def pages(
    transport: Transport,
    resource: Resource,
    namespace: str | None,
    query: Mapping[str, str],
    *,
    size: int = PAGE_SIZE,
) -> AsyncGenerator[ObjectList, None]:
    """Read all objects that match; a size of 0 asks for one page of all.

    Raises:
        GoneError: The list took too long: what was read of it must be read again.
        ApiError: Any other failure.
    """
    asked = {**query, "limit": str(size)} if size else dict(query)
    token: str | None = ""
    while token is not None:
        request = list_request(resource, namespace, asked | ({"continue": token} if token else {}))
        answer = await transport.send(request, seconds=_PAGE_SECONDS)
        metadata = answer.get("metadata") or {}
        token = metadata.get("continue") or None
        yield ObjectList(answer.get("items") or [], metadata.get("resourceVersion", ""))
