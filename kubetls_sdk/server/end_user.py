# SPDX-License-Identifier: Apache-2.0
"""The end user of a request, as an application sees it.

Rules:
    1. Only `KubeTLSMiddleware(users=...)` puts a user into a scope; no header does.
    2. None means that the request has no token, and that the rule which allowed it is fine with
       that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from kubetls_sdk.users.user import User

__all__ = ("USER_ASKED_KEY", "USER_KEY", "end_user", "user_names")

USER_KEY: Final = "kubetls.user"
"""Where the middleware puts the user into the ASGI scope."""

USER_ASKED_KEY: Final = "kubetls.user_asked"
"""In the scope when the policy looked at the user."""


def end_user(request: Any) -> User | None:
    """Get the end user of a request.

    Args:
        request: An ASGI scope, or an object with a `.scope`.

    Raises:
        ConfigurationError: No `KubeTLSMiddleware` with `users` has seen this request.
    """
    scope = request if isinstance(request, Mapping) else getattr(request, "scope", None)
    if not isinstance(scope, Mapping) or USER_KEY not in scope:
        raise ConfigurationError(
            "expected a request that KubeTLSMiddleware with users has seen: give it users"
        )
    found: User | None = scope[USER_KEY]
    return found


def user_names(scope: Any) -> tuple[str, str] | None:
    """Issuer and subject of the user in a scope, None without one."""
    user = scope.get(USER_KEY)
    return None if user is None else (user.issuer, user.subject)
