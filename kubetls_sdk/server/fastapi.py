# SPDX-License-Identifier: Apache-2.0
"""The caller as a FastAPI dependency.

    from kubetls_sdk.server.fastapi import Caller

    @app.get("/orders/{id}")
    def order(id: str, caller: Caller): ...   # caller.spiffe_id

Works for routes and WebSockets. Needs `KubeTLSMiddleware` around the application, as `kubetls
serve` puts it; without it a request ends with an error, never without a caller.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads the annotation

from kubetls_sdk.server import caller as _caller

__all__ = ("Caller", "current_caller")


def current_caller(connection: HTTPConnection) -> _caller.Caller:
    """Get the caller of the request at hand."""
    return _caller.caller(connection)


Caller = Annotated[_caller.Caller, Depends(current_caller)]
"""Who calls; `.spiffe_id` is None for an anonymous caller, where those are let in."""
