# SPDX-License-Identifier: Apache-2.0
"""Clients behind a proxy at the edge: whom we believe about them, and what we then know.

The proxy ends the client's TLS and tells us the client's certificate in a header field. That is
believed from the proxies that are named here, over mutual TLS, and from nobody else.

Rules:
    1. The caller stays who it is: the proxy. `from:` of a rule never matches a forwarded client;
       a rule asks about one by the condition `forwarded.spiffeId`.
    2. The proxy vouches that the client had the key; the certificate is verified here, against the
       trust bundles, and again whenever those change.
    3. What a named proxy says is true or the request is refused; what others say is removed.

Spec: RFC 9440; Envoy `x-forwarded-client-cert`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from kubetls_sdk.exceptions import ConfigurationError, SpiffeIdError
from kubetls_sdk.spiffe_id import SpiffeId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from kubetls_sdk.spiffe_id import TrustDomain
    from kubetls_sdk.verification import VerifiedPeer

__all__ = (
    "FORWARDED_KEY",
    "CertificateHeader",
    "ForwardedClient",
    "ForwardedFrom",
    "forwarded_identity",
)

CertificateHeader = Literal["client-cert", "x-forwarded-client-cert"]

FORWARDED_KEY: Final = "kubetls.forwarded"
"""In the ASGI scope of a request with a forwarded client: its `PeerConnection`."""


@dataclass(frozen=True, kw_only=True)
class ForwardedFrom:
    """The proxies that are believed about their clients.

    Attributes:
        proxies: Their SPIFFE IDs, exact.
        header: The form in which they tell: RFC 9440, or Envoy's.

    Raises:
        ConfigurationError: No proxy, one that is no workload's SPIFFE ID, or another header.
    """

    proxies: Sequence[SpiffeId | str]
    header: CertificateHeader = "client-cert"

    def __post_init__(self) -> None:
        if isinstance(self.proxies, str) or not self.proxies:
            raise ConfigurationError(
                f"expected proxies as a list of SPIFFE IDs, got {self.proxies!r}"
            )
        if self.header not in get_args(CertificateHeader):
            expected = " or ".join(map(repr, get_args(CertificateHeader)))
            raise ConfigurationError(f"expected header {expected}, got {self.header!r}")
        object.__setattr__(self, "proxies", tuple(_workload(proxy) for proxy in self.proxies))


@dataclass(frozen=True, slots=True)
class ForwardedClient:
    """Whom a proxy has forwarded a request of.

    Attributes:
        peer: The result of verifying the certificate that the proxy told.
    """

    peer: VerifiedPeer

    @property
    def spiffe_id(self) -> SpiffeId:
        """The identity that the certificate proves, if the proxy is right."""
        return self.peer.spiffe_id

    @property
    def trust_domain(self) -> TrustDomain:
        """The trust domain of the identity."""
        return self.peer.spiffe_id.trust_domain

    @property
    def certificate(self) -> x509.Certificate:
        """The client's certificate."""
        return self.peer.leaf

    def __str__(self) -> str:
        return str(self.peer.spiffe_id)


def forwarded_identity(scope: Any) -> str | None:
    """The identity of the forwarded client in a scope, as text; None without one."""
    client = scope.get(FORWARDED_KEY)
    return None if client is None else client.identity


def _workload(proxy: SpiffeId | str) -> SpiffeId:
    try:
        found = proxy if isinstance(proxy, SpiffeId) else SpiffeId.parse(proxy)
    except SpiffeIdError as err:
        raise ConfigurationError(f"expected the SPIFFE ID of a proxy: {err}") from err
    if not found.path:
        raise ConfigurationError(f"expected the SPIFFE ID of a workload, got {str(found)!r}")
    return found
