# SPDX-License-Identifier: Apache-2.0
"""What single routes of Starlette require.

    from kubetls_sdk.server.starlette import requires

    @requires("cancel", "order", attributes=lambda request: {"owner": request.path_params["user"]})
    async def cancel(request): ...

Needs `KubeTLSMiddleware` around the application; without it a request ends with an error.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar, cast

from starlette.responses import Response

from kubetls_sdk.server.refusal import POLICY_VIOLATION, Refusal
from kubetls_sdk.server.requirement import Requirement

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("requires",)

Endpoint = TypeVar("Endpoint", bound="Callable[..., Any]")


def requires(
    action: str, resource: str, *, attributes: Callable[[Any], Any] | None = None
) -> Callable[[Endpoint], Endpoint]:
    """Let only those call an endpoint whom the policy allows an action.

    Args:
        action: As rules name it in `actions`.
        resource: As rules name it in `resources`.
        attributes: Makes of the request what rules may ask for as `resource.<name>`; may be a
            coroutine function where the endpoint is one.

    Returns:
        A decorator of functions and methods that take a request or a WebSocket.

    Raises:
        ConfigurationError: When it decorates: a coroutine is needed where there is none.
    """
    requirement = Requirement(action, resource, attributes)

    def decorate(endpoint: Endpoint) -> Endpoint:
        position = _position(endpoint)
        if inspect.iscoroutinefunction(endpoint):
            return cast("Endpoint", _awaiting(endpoint, requirement, position))
        requirement.check_blocking()
        return cast("Endpoint", _blocking(endpoint, requirement, position))

    return decorate


def _awaiting(endpoint: Any, requirement: Requirement, position: int) -> Any:
    @functools.wraps(endpoint)
    async def guarded(*arguments: Any, **options: Any) -> Any:
        request = arguments[position]
        refused = await requirement.refusal(request)
        if refused is None:
            return await endpoint(*arguments, **options)
        if request.scope["type"] == "websocket":
            await _reject(request, refused)
            return None
        return _response(refused)

    return guarded


def _blocking(endpoint: Any, requirement: Requirement, position: int) -> Any:
    @functools.wraps(endpoint)
    def guarded(*arguments: Any, **options: Any) -> Any:
        refused = requirement.refusal_blocking(arguments[position])
        return endpoint(*arguments, **options) if refused is None else _response(refused)

    return guarded


def _position(endpoint: Any) -> int:
    """Where the request is: methods of an `HTTPEndpoint` have `self` before it."""
    return 1 if next(iter(inspect.signature(endpoint).parameters), "") == "self" else 0


async def _reject(websocket: Any, refused: Refusal) -> None:
    if "websocket.http.response" in (websocket.scope.get("extensions") or ()):
        await websocket.send_denial_response(_response(refused))
    else:
        await websocket.close(POLICY_VIOLATION)


def _response(refused: Refusal) -> Response:
    body, headers = refused.content()
    named = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    return Response(body, refused.status, named)
