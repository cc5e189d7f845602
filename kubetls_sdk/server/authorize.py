# SPDX-License-Identifier: Apache-2.0
"""The application's own question to the policy: may this user do that to this resource?

    decision = authorize(request, "refund", "order", owner=order.owner)
    if not decision.allowed:
        raise HTTPException(403)

Rules:
    1. Caller and user are those of the request; neither is an argument.
    2. The policy is the one in force now, not the one that let the request in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kubetls_sdk.authz import Decision, PolicySet
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.caller import caller
from kubetls_sdk.server.end_user import USER_KEY
from kubetls_sdk.server.scope_details import ScopeDetails

if TYPE_CHECKING:
    from kubetls_sdk.server.verdicts import Admission

__all__ = ("POLICY_KEY", "authorize")

POLICY_KEY: Final = "kubetls.policy"
"""Where the middleware puts the `Admission` of a request into the ASGI scope."""


def authorize(request: Any, action: str, resource: str, **attributes: object) -> Decision:
    """Decide about an action of the application on one of its own resources.

    Args:
        request: An ASGI scope, or an object with a `.scope`.
        action: What is done, as rules name it in `actions`.
        resource: The kind of resource, as rules name it in `resources`.
        attributes: What rules may ask for as `resource.<name>`.

    Returns:
        The decision; nothing is answered or logged here.

    Raises:
        ConfigurationError: No `KubeTLSMiddleware` has seen this request, or its policy is no
            `PolicySet`.
    """
    known = caller(request)  # It refuses what no middleware has seen.
    scope = request if isinstance(request, dict) else request.scope
    admission: Admission = scope[POLICY_KEY]
    policies = admission.verdicts.current
    if not isinstance(policies, PolicySet):
        raise ConfigurationError(f"expected policy files to ask, got {policies!r}")
    user = scope.get(USER_KEY)
    return policies.authorize(
        None if user is None else user.claims,
        action,
        resource,
        caller=known.spiffe_id,
        attributes=attributes,
        details=ScopeDetails(scope),
    )
