# SPDX-License-Identifier: Apache-2.0
"""Who calls: the verified peer of a connection, as an application sees it.

Rules:
    1. A caller is made from a verified peer once for each connection; no header makes one. What
       a named proxy tells about its client is beside it, and of another type.
    2. Anonymous is a value, and has no identity: it equals no SPIFFE ID.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from kubetls_sdk.server.forwarded import ForwardedClient
    from kubetls_sdk.spiffe_id import SpiffeId, TrustDomain
    from kubetls_sdk.verification import VerifiedPeer

__all__ = ("ANONYMOUS", "SCOPE_KEY", "Caller", "caller")

SCOPE_KEY: Final = "kubetls.caller"
"""Where the middleware puts the caller into the ASGI scope."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The other end of the connection that a request came on.

    Attributes:
        peer: The result of the verification; None for an anonymous caller.
        spiffe_id: The identity that the peer proved; None for an anonymous caller.
        forwarded: On whose behalf a proxy calls that is believed about it (see
            `kubetls_sdk.server.forwarded`), else None. All else is about the proxy.
    """

    peer: VerifiedPeer | None = None
    spiffe_id: SpiffeId | None = None
    forwarded: ForwardedClient | None = None

    @classmethod
    def of(cls, peer: VerifiedPeer | None) -> Caller:
        """The caller that a verification proved; anonymous without one."""
        return ANONYMOUS if peer is None else cls(peer, peer.spiffe_id)

    @property
    def is_anonymous(self) -> bool:
        """Whether the caller presented no certificate (only where that is allowed)."""
        return self.spiffe_id is None

    @property
    def trust_domain(self) -> TrustDomain | None:
        """The trust domain of the identity."""
        return None if self.spiffe_id is None else self.spiffe_id.trust_domain

    @property
    def namespace(self) -> str | None:
        """The Kubernetes namespace, when the path is `/ns/<namespace>/sa/<service account>`.

        Means little without `trust_domain`: each domain has namespaces of its own.
        """
        return self._kubernetes_names()[0]

    @property
    def service_account(self) -> str | None:
        """The service account, when the path is `/ns/<namespace>/sa/<service account>`."""
        return self._kubernetes_names()[1]

    def __str__(self) -> str:
        return "anonymous" if self.spiffe_id is None else str(self.spiffe_id)

    def _kubernetes_names(self) -> tuple[str | None, str | None]:
        if self.spiffe_id is None:
            return None, None
        match self.spiffe_id.path.split("/"):
            case ["", "ns", namespace, "sa", service_account]:
                return namespace, service_account
            case _:
                return None, None


ANONYMOUS: Final = Caller()
"""A caller without certificate, where the server lets such in."""


def caller(request: Any) -> Caller:
    """Get the caller of a request.

    Args:
        request: An ASGI scope, or an object with a `.scope`: requests and websockets of Starlette,
            FastAPI, Litestar, Quart and Django.

    Raises:
        ConfigurationError: No `KubeTLSMiddleware` has seen this request.
    """
    scope = request if isinstance(request, Mapping) else getattr(request, "scope", None)
    found = scope.get(SCOPE_KEY) if isinstance(scope, Mapping) else None
    if not isinstance(found, Caller):
        raise ConfigurationError(
            "expected a request that KubeTLSMiddleware has seen: wrap the application with it"
        )
    return found
