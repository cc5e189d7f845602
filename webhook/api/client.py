# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes API as plain dicts: what the control plane reads, writes and watches.

    async with await Api.connect() as api:
        pod = await api.get(PODS, "web-0", namespace="shop")

Rules:
    1. The only module that speaks to an API server; others take an `Api`, tests give a double.
    2. Objects are dicts as the API server sends them, never models: parsing is the caller's.
    3. Every failure is an `ApiError`; see `transport` for what is repeated here and what is not.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

from webhook.api.credentials import Credentials
from webhook.api.errors import (
    AlreadyExistsError,
    ApiError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    UnreachableError,
)
from webhook.api.paging import PAGE_SIZE, ObjectList, pages
from webhook.api.requests import (
    Request,
    apply_request,
    create_request,
    delete_request,
    get_request,
    patch_request,
    replace_request,
    selection,
    watch_request,
)
from webhook.api.resources import Resource
from webhook.api.transport import CONNECTIONS, Transport
from webhook.api.watching import WatchEvent, watch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from pathlib import Path
    from typing import Self

__all__ = (
    "AlreadyExistsError",
    "Api",
    "ApiError",
    "ConflictError",
    "ForbiddenError",
    "GoneError",
    "InvalidError",
    "NotFoundError",
    "ObjectList",
    "Resource",
    "UnreachableError",
    "WatchEvent",
)


class Api:
    """One API server, as one user. All methods may be called concurrently."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        observe: Callable[[str, int, float], None] | None = None,
    ) -> None:
        """Prepare the client.

        Args:
            credentials: Where and who.
            observe: Called after each request with method, HTTP status (0: none) and seconds.
        """
        self._transport = Transport(credentials, observe=observe)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._transport!r}>"

    @classmethod
    async def connect(
        cls,
        kubeconfig: Path | None = None,
        context: str | None = None,
        *,
        observe: Callable[[str, int, float], None] | None = None,
    ) -> Self:
        """Find the API server: by a kubeconfig, or as the pod's service account without one.

        Nothing is sent yet.

        Raises:
            ConfigurationError: Neither is there, or the API server would not be verified.
        """
        if kubeconfig is None:
            return cls(Credentials.in_cluster(), observe=observe)
        return cls(await Credentials.from_kubeconfig(kubeconfig, context), observe=observe)

    async def __aenter__(self) -> Self:
        self._transport.open()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._transport.close()

    def anonymous(self, *, connections: int = CONNECTIONS) -> Self:
        """The same API server by connections of its own, as nobody; open it with `async with`.

        For `with_token`: another's requests never share a connection with our own credentials.

        Args:
            connections: How many at the most; requests wait for their turn.
        """
        return self._over(self._transport.anonymous(connections))

    def with_token(self, token: str) -> Self:
        """The same API server by these connections, as whoever this token is of.

        It lives as long as this client; the token goes with each request, and is never shown.

        Raises:
            ConfigurationError: A client certificate goes with each connection; see `anonymous`.
            InvalidError: It is no token.
        """
        return self._over(self._transport.with_token(token))

    def _over(self, transport: Transport) -> Self:
        made = copy.copy(self)
        made._transport = transport  # noqa: SLF001 - a copy of ours
        return made

    @property
    def clock_ahead(self) -> float | None:
        """Seconds by which our clock is ahead of the API server's; None: not compared yet."""
        return self._transport.clock_ahead

    async def get(
        self, resource: Resource, name: str, *, namespace: str | None = None
    ) -> dict[str, Any]:
        """Read one object.

        Raises:
            NotFoundError: There is none.
            ApiError: Any other failure.
        """
        return await self._transport.send(get_request(resource, name, namespace))

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        field_selector: str | None = None,
        label_selector: str | None = None,
    ) -> ObjectList:
        """Read all objects that match, page by page; begins anew, unpaged, when a page expired."""
        query = selection(field_selector, label_selector)
        try:
            read = [page async for page in pages(self._transport, resource, namespace, query)]
        except GoneError:
            whole = pages(self._transport, resource, namespace, query, size=0)
            read = [page async for page in whole]
        items = [item for page in read for item in page.items]
        return ObjectList(items, read[-1].resource_version)

    def pages(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        field_selector: str | None = None,
        label_selector: str | None = None,
        size: int = PAGE_SIZE,
    ) -> AsyncGenerator[ObjectList, None]:
        """Read all objects that match, of which only one page is in memory at a time.

        Raises:
            GoneError: The list took too long: what was read of it must be read again.
            ApiError: Any other failure.
        """
        query = selection(field_selector, label_selector)
        return pages(self._transport, resource, namespace, query, size=size)

    async def create(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Create an object and return it as stored.

        Args:
            resource: Its kind; apiVersion and kind are filled in where the body has none.
            body: The object.
            namespace: Where; the body's own when None.
            subresource: Such as `token` or `eviction`, of the object that the body names.
            dry_run: Let the API server check it only.

        Raises:
            AlreadyExistsError: The name is taken.
            ApiError: Any other failure.
        """
        request = create_request(
            resource, body, namespace, subresource=subresource, dry_run=dry_run
        )
        return await self._transport.send(request)

    async def replace(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        *,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Replace an object (PUT): a compare-and-swap when its metadata has a resourceVersion.

        Name and namespace are the body's.

        Raises:
            ConflictError: It has changed since, or has another UID than the body.
            ApiError: Any other failure.
        """
        request = replace_request(resource, body, subresource=subresource, dry_run=dry_run)
        return await self._transport.send(request)

    async def patch(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        *,
        subresource: str | None = None,
    ) -> dict[str, Any]:
        """Merge into an object (JSON merge patch); name and namespace are the body's.

        Raises:
            ApiError: Any failure.
        """
        request = patch_request(resource, body, subresource=subresource)
        return await self._transport.send(request)

    async def apply(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        *,
        field_manager: str,
        force: bool = False,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Make an object have the body's fields (server-side apply), and create it if need be.

        Raises:
            ConflictError: Another manager owns a field, and `force` is not set.
            ApiError: Any other failure.
        """
        request = apply_request(
            resource, body, field_manager=field_manager, force=force, dry_run=dry_run
        )
        return await self._transport.send(request)

    async def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None:
        """Delete an object, only if it is the one with this UID and version where these are given.

        Raises:
            NotFoundError: There is none.
            ConflictError: It is another one.
            ApiError: Any other failure.
        """
        request = delete_request(
            resource, name, namespace, uid=uid, resource_version=resource_version
        )
        await self._transport.send(request)

    def watch(
        self,
        resource: Resource,
        *,
        resource_version: str,
        namespace: str | None = None,
        field_selector: str | None = None,
        label_selector: str | None = None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Follow changes since a resource version; ends when the API server ends it (minutes).

        The first event is a bookmark, as soon as the watch is open. Close the iterator
        (`contextlib.aclosing`) when it is left early.

        Raises:
            GoneError: The version is too old: list again.
            ApiError: Any other failure; the watch can go on from the last version seen.
        """
        query = selection(field_selector, label_selector)
        request = watch_request(resource, namespace, query)
        return watch(self._transport, request, resource_version)

    async def serves(self, resource: Resource) -> bool:
        """Ask whether the API server serves this kind in this version.

        Raises:
            ApiError: It did not answer.
        """
        request = Request("GET", resource.root, f"discover {resource.api_version}")
        try:
            answer = await self._transport.send(request)
        except NotFoundError:
            return False
        return any(entry.get("name") == resource.plural for entry in answer.get("resources") or ())

    async def version(self) -> tuple[int, int]:
        """Ask for the API server's version, such as `(1, 37)`.

        Raises:
            ApiError: It did not answer.
        """
        answer = await self._transport.send(Request("GET", "/version", "get version"))
        return _number(answer.get("major")), _number(answer.get("minor"))


def _number(text: object) -> int:
    """Read `37+`, as some providers write it."""
    digits = re.match(r"\d+", str(text))
    return int(digits[0]) if digits else 0
