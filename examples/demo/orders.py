# SPDX-License-Identifier: Apache-2.0
"""The service `orders`: a plain Starlette application, which knows its caller.

kubetls serve examples.demo.orders:app --policy examples/demo/policy.yaml
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from kubetls_sdk.server.caller import caller

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ("app",)


async def show(request: Request) -> JSONResponse:
    """Answer with an order, and with who asked for it over which connection."""
    return _answer(request, request.path_params["order"])


async def place(request: Request) -> JSONResponse:
    """Take an order."""
    return _answer(request, (await request.json())["order"])


async def remove(request: Request) -> JSONResponse:
    """Delete an order; the policy lets nobody come this far."""
    return _answer(request, request.path_params["order"])


async def of_user(request: Request) -> JSONResponse:
    """What somebody has ordered; the policy compares that with the end user."""
    return _answer(request, None)


async def catalogue(request: Request) -> JSONResponse:
    """What partners may see."""
    return _answer(request, None)


def _answer(request: Request, order: str | None) -> JSONResponse:
    peer = caller(request).peer
    return JSONResponse(
        {
            "order": order,
            "caller": str(caller(request)),
            "serial": f"{peer.leaf.serial_number:x}" if peer else None,
            "port": request.client.port if request.client else None,
        }
    )


app = Starlette(
    routes=[
        Route("/orders/{order}", show),
        Route("/orders/{order}", remove, methods=["DELETE"]),
        Route("/orders", place, methods=["POST"]),
        Route("/users/{user}/orders", of_user),
        Route("/catalogue", catalogue),
    ]
)
