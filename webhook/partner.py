# SPDX-License-Identifier: Apache-2.0
"""Another organisation's trust domain: who may see it, and where its bundle comes from.

Rules:
    1. The trust domain is always written down; nothing that is fetched can name or change it.
    2. A bundle is either in the configuration or fetched, by the signer's leader and nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from kubetls_sdk.bundle import TrustBundle
    from kubetls_sdk.federation.partner import Partner as FederatedPartner
    from kubetls_sdk.spiffe_id import TrustDomain
    from webhook.name_pattern import NamePattern

__all__ = ("Partner",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partner:
    """A partner.

    Attributes:
        name: A DNS label; names its ClusterTrustBundle.
        trust_domain: Its own.
        namespaces: Which namespaces may see it.
        bundle: Its authorities, when the configuration has them.
        federated: Otherwise how its endpoint is asked, and how often.

    Raises:
        ConfigurationError: Both or neither, or one of another trust domain.
    """

    name: str
    trust_domain: TrustDomain
    namespaces: tuple[NamePattern, ...]
    bundle: TrustBundle | None = None
    federated: FederatedPartner | None = None

    def __post_init__(self) -> None:
        source = self.bundle or self.federated
        if source is None or (self.bundle is not None and self.federated is not None):
            raise ConfigurationError("expected one of bundle and endpoint")
        if self.federated is not None and self.federated.endpoint is None:
            raise ConfigurationError("expected an endpoint of the partner, got a file")
        if source.trust_domain != self.trust_domain:
            raise ConfigurationError(
                f"expected a bundle of {str(self.trust_domain)!r}, got one of"
                f" {str(source.trust_domain)!r}"
            )

    @property
    def server_domain(self) -> TrustDomain | None:
        """The trust domain of its endpoint's server, whose bundle verifies it; None without one."""
        endpoint = self.federated.endpoint if self.federated is not None else None
        server = endpoint.spiffe_id if endpoint is not None else None
        return None if server is None else server.trust_domain

    def is_visible_in(self, namespace: str) -> bool:
        """Tell whether pods of a namespace may trust it."""
        return any(pattern.matches(namespace) for pattern in self.namespaces)
