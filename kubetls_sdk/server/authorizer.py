# SPDX-License-Identifier: Apache-2.0
"""What a server asks before it serves a request, and the two answers that need no policy file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from kubetls_sdk.authz.decision import Decision, Kind

if TYPE_CHECKING:
    from kubetls_sdk.authz.details import Details
    from kubetls_sdk.spiffe_id import SpiffeId

__all__ = ("AnyCaller", "AnyVerified", "Authorizer", "AuthorizerHolder")

_ALLOWED = Decision(True, Kind.ALLOWED, "every verified workload is allowed", rule="any-verified")
_ALLOWED_ALL = Decision(True, Kind.ALLOWED, "every caller is allowed", rule="any-caller")
_ANONYMOUS = Decision(
    False, Kind.NO_RULE_FOR_CALLER, "an anonymous caller", needed=("a verified workload",)
)


@runtime_checkable
class Authorizer(Protocol):
    """Decides whether a caller may do something."""

    def decide(
        self, caller: SpiffeId | None, method: str, path: str, details: Details, /
    ) -> Decision:
        """Decide about one request; see `kubetls_sdk.authz.PolicySet.decide`."""
        ...


class AuthorizerHolder(Protocol):
    """Holds the authorizer that is in force, such as `kubetls_sdk.policy_file.PolicyFile`."""

    @property
    def current(self) -> Authorizer:
        """Decides about the next request."""
        ...


class AnyVerified:
    """Every workload that our bundles vouch for may do everything: the application decides."""

    def decide(
        self, caller: SpiffeId | None, method: str, path: str, details: Details, /
    ) -> Decision:
        """Allow whoever has an identity."""
        del method, path, details
        return _ANONYMOUS if caller is None else _ALLOWED


class AnyCaller:
    """Everybody may do everything, anonymous callers too: for the first step of a migration."""

    def decide(
        self, caller: SpiffeId | None, method: str, path: str, details: Details, /
    ) -> Decision:
        """Allow."""
        del caller, method, path, details
        return _ALLOWED_ALL
