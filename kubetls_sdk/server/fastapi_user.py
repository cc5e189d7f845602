# SPDX-License-Identifier: Apache-2.0
"""The end user as a FastAPI dependency.

    from kubetls_sdk.server.fastapi_user import EndUser

    @app.get("/orders/{id}")
    def order(id: str, user: EndUser): ...   # user.issuer, user.subject, user.claims

A module of its own, since it needs PyJWT. Needs `KubeTLSMiddleware` with `users` around the
application, as `kubetls serve --users` puts it; without it a request ends with an error.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads the annotation

from kubetls_sdk.server.end_user import end_user
from kubetls_sdk.users.user import User

__all__ = ("EndUser", "current_user")


def current_user(connection: HTTPConnection) -> User | None:
    """Get the end user of the request at hand."""
    return end_user(connection)


EndUser = Annotated[User | None, Depends(current_user)]
"""Who it is done for; None where the rule says `user: optional` and there is no token."""
