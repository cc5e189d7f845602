# SPDX-License-Identifier: Apache-2.0
"""The external API: two faces in one process.

Outside it has a public certificate, and the user's token says who calls. Inside it is a client of
the internal API, with its own certificate and trust bundle.

kubetls serve examples.edge.external:app --edge-port 8443 ... --policy ... --users ...
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from examples.edge.calls import Calls
from examples.edge.observatory import Observatory
from examples.edge.trail import Trail
from examples.edge.zones import INTERNAL
from kubetls_sdk.client.httpx2 import AsyncClient, AsyncExternalClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

__all__ = ("app",)

_PAGE = Path(__file__).parent / "page"
_GUARDS = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        b" img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
]


class Guarded:
    """Tells browsers what they may do with an answer: with each one, whoever made it."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_GUARDS]
            await send(message)

        await self._app(scope, receive, guarded)


@contextlib.asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
    """Open both clients: one for the inside, one for the internet, which knows nothing of us."""
    variables = os.environ
    inside, outside = Trail(Path(variables["EDGE_INSIDE"])), Trail(Path(variables["EDGE_OUTSIDE"]))
    calls = Calls()
    async with (
        AsyncClient(server=INTERNAL, base_url=variables["EDGE_INTERNAL_URL"]) as internal,
        AsyncExternalClient(
            roots=variables["EDGE_ROOTS"], base_url=variables["EDGE_LOGIN_URL"]
        ) as login,
    ):
        yield {
            "internal": internal,
            "login": login,
            "calls": calls,
            "observatory": Observatory(outside, inside, calls),
        }


async def page(_request: Request) -> Response:
    """The page for a browser."""
    return FileResponse(_PAGE / "index.html")


async def log_in(request: Request) -> Response:
    """Get a token of the login service; a call to the internet."""
    answer = await request.state.login.post("/token", content=await request.body())
    return JSONResponse(answer.json(), answer.status_code)


async def pass_on(request: Request) -> Response:
    """Ask the internal API, for the same user: the token goes along."""
    token = request.headers["authorization"]
    answer = await request.state.internal.get(request.url.path, headers={"Authorization": token})
    request.state.calls.note(answer)
    return Response(answer.content, answer.status_code, media_type="application/json")


async def figures(_request: Request) -> Response:
    """For workloads of ours; from outside nobody comes this far."""
    return JSONResponse({"orders today": 4})


async def mark(request: Request) -> Response:
    """Where the records end now."""
    return JSONResponse({"mark": request.state.observatory.mark()})


async def checks(request: Request) -> Response:
    """What was checked on each hop of the last call for a path since a mark."""
    path, mark = (request.query_params.get(name, "") for name in ("path", "mark"))
    try:
        hops = await request.state.observatory.hops(path, mark, request.scope)
    except (ValueError, OverflowError):
        return JSONResponse({"error": "expected a mark of ours"}, 400)
    return JSONResponse({"hops": [hop.document() for hop in hops]})


async def others(request: Request) -> Response:
    """What was checked of the last calls of the app and the partners."""
    found = request.state.observatory.others()
    latest = {name: [hop.document() for hop in hops] for name, hops in found.items()}
    return JSONResponse(latest)


async def headers(request: Request) -> Response:
    """The names of the header fields that arrived here."""
    return JSONResponse({"headers": sorted(request.headers)})


async def unreachable(_request: Request, _error: Exception) -> Response:
    """Say that a server behind us does not answer; which one, is for our log."""
    return JSONResponse({"error": "a server behind this one does not answer"}, 502)


app = Starlette(
    routes=[
        Route("/", page),
        Route("/login", log_in, methods=["POST"]),
        Route("/users/{user}/orders", pass_on),
        Route("/orders/{order}", pass_on),
        Route("/figures", figures),
        # A public service shows nobody what it checked: these are here to be looked at.
        Route("/checks", checks),
        Route("/checks/mark", mark),
        Route("/checks/others", others),
        Route("/checks/headers", headers),
        Mount("/page", StaticFiles(directory=_PAGE)),
    ],
    exception_handlers={httpx2.TransportError: unreachable},
    middleware=[Middleware(Guarded)],
    lifespan=lifespan,
)
