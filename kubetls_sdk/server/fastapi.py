# SPDX-License-Identifier: Apache-2.0
"""The caller, and what single routes require, as FastAPI dependencies.

    from kubetls_sdk.server.fastapi import Caller

    @app.get("/orders/{id}")
    def order(id: str, caller: Caller): ...   # caller.spiffe_id

    @app.delete("/orders/{id}", dependencies=[Depends(requires("cancel", "order"))])
    def cancel(id: str): ...

Works for routes and WebSockets. Needs `KubeTLSMiddleware` around the application, as `kubetls
serve` puts it; without it a request ends with an error, never without a caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, HTTPException, WebSocketException
from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads the annotation

from kubetls_sdk.server import caller as _caller
from kubetls_sdk.server.refusal import POLICY_VIOLATION, TITLES
from kubetls_sdk.server.requirement import Requirement

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ("Caller", "current_caller", "requires")


def current_caller(connection: HTTPConnection) -> _caller.Caller:
    """Get the caller of the request at hand."""
    return _caller.caller(connection)


Caller = Annotated[_caller.Caller, Depends(current_caller)]
"""Who calls; `.spiffe_id` is None for an anonymous caller, where those are let in."""


def requires(
    action: str, resource: str, *, attributes: Callable[[Any], Any] | None = None
) -> Callable[[HTTPConnection], Awaitable[None]]:
    """Make a dependency that lets only those in whom the policy allows an action.

    What it refuses is an `HTTPException` with 403, or 401 for want of a user: problem details
    (RFC 9457), unless the application has a handler of its own. A WebSocket is closed.

    Args:
        action: As rules name it in `actions`.
        resource: As rules name it in `resources`.
        attributes: Makes of the request what rules may ask for as `resource.<name>`; may be a
            coroutine function.
    """
    requirement = Requirement(action, resource, attributes)

    async def required(connection: HTTPConnection) -> None:
        """Raise, as a dependency does, when the policy refuses."""
        refused = await requirement.refusal(connection)
        if refused is None:
            return
        if connection.scope["type"] == "websocket":
            raise WebSocketException(POLICY_VIOLATION)
        headers = {"content-type": "application/problem+json"}
        if refused.challenge is not None:
            headers["www-authenticate"] = refused.challenge
        raise HTTPException(refused.status, TITLES[refused.status], headers)

    return required
