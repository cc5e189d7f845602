# SPDX-License-Identifier: Apache-2.0
"""The internal API: mutual TLS alone, for workloads that its policy names.

kubetls serve examples.edge.internal:app --policy examples/edge/internal-policy.yaml --users ...

Rules:
    1. The user's token comes along with each call and is checked here as well: whoever breaks into
       the external API is still no user.
    2. Whose order it is, is looked up here; the policy compares it with the user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from kubetls_sdk.server.starlette import requires

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ("app",)

_ORDERS = {
    "A1": {"owner": "alice", "item": "tea, 500 g"},
    "A2": {"owner": "alice", "item": "a kettle"},
    "B1": {"owner": "bob", "item": "coffee, 1 kg"},
    "C1": {"owner": "carol", "item": "two cups"},
}
_CATALOGUE = ["tea", "coffee", "kettle", "cup"]


def _owner(request: Request) -> dict[str, str]:
    found = _ORDERS.get(request.path_params["order"])
    return {"owner": found["owner"]} if found else {}  # nobody's: the rule cannot hold


async def of_user(request: Request) -> JSONResponse:
    """What a user has ordered; the policy has compared that with the token."""
    user = request.path_params["user"]
    found = {name: order["item"] for name, order in _ORDERS.items() if order["owner"] == user}
    return JSONResponse({"orders": found})


@requires("read", "order", attributes=_owner)
async def order(request: Request) -> JSONResponse:
    """One order, for its owner."""
    name = request.path_params["order"]
    return JSONResponse({"orders": {name: _ORDERS[name]["item"]}})


async def catalogue(_request: Request) -> JSONResponse:
    """What partners may see."""
    return JSONResponse({"catalogue": _CATALOGUE})


async def deliveries(_request: Request) -> JSONResponse:
    """What couriers may see."""
    return JSONResponse({"deliveries": sorted(_ORDERS)})


app = Starlette(
    routes=[
        Route("/users/{user}/orders", of_user),
        Route("/orders/{order}", order),
        Route("/catalogue", catalogue),
        Route("/deliveries", deliveries),
    ]
)
