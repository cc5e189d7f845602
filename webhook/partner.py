# SPDX-License-Identifier: Apache-2.0
"""Another trust domain: who may see it, and where its bundle comes from.

Rules:
    1. The trust domain is always written down; nothing that is fetched can name or change it.
    2. A bundle is in the configuration; or fetched, by the signer's leader and nobody else; or it
       is that of another zone of ours, which is published already, and labelled as a partner's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubetls_sdk.exceptions import ConfigurationError
from webhook.names import PARTNER_LABEL, PARTNER_SIGNER_NAME, annotation

if TYPE_CHECKING:
    from kubetls_sdk.bundle import TrustBundle
    from kubetls_sdk.federation.partner import Partner as FederatedPartner
    from kubetls_sdk.spiffe_id import TrustDomain
    from webhook.config import Zone
    from webhook.name_pattern import NamePattern

__all__ = ("Partner",)

_DOMAIN_LABEL: Final = annotation("partner-domain")
_DOMAIN_DIGITS: Final = 32
"""Of a SHA-256: a label is shorter than a trust domain may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partner:
    """A partner.

    Attributes:
        name: A DNS label; pods ask for it by that, and it names its ClusterTrustBundle.
        trust_domain: Its own.
        namespaces: Which namespaces may see it.
        bundle: Its authorities, when the configuration has them.
        federated: How its endpoint is asked, and how often, when it is fetched.
        zone: The zone of ours that it is.

    Raises:
        ConfigurationError: None or several of these, or one of another trust domain.
    """

    name: str
    trust_domain: TrustDomain
    namespaces: tuple[NamePattern, ...]
    bundle: TrustBundle | None = None
    federated: FederatedPartner | None = None
    zone: Zone | None = None

    def __post_init__(self) -> None:
        sources = [each for each in (self.bundle, self.federated, self.zone) if each is not None]
        if len(sources) != 1:
            raise ConfigurationError("expected one of bundle, endpoint and zone")
        if self.federated is not None and self.federated.endpoint is None:
            raise ConfigurationError("expected an endpoint of the partner, got a file")
        if sources[0].trust_domain != self.trust_domain:
            raise ConfigurationError(
                f"expected a bundle of {str(self.trust_domain)!r}, got one of"
                f" {str(sources[0].trust_domain)!r}"
            )

    @property
    def signer_name(self) -> str:
        """The signer name that its ClusterTrustBundle has."""
        return PARTNER_SIGNER_NAME if self.zone is None else self.zone.signer_name

    @property
    def labels(self) -> dict[str, str]:
        """The labels that its ClusterTrustBundle has while it is a partner; volumes select by them.

        A volume names its file by the trust domain. When the partner gets another one, what is
        published then must never come into the file of the last one, nor the other way round.
        """
        domain = hashlib.sha256(str(self.trust_domain).encode()).hexdigest()
        return {PARTNER_LABEL: self.name, _DOMAIN_LABEL: domain[:_DOMAIN_DIGITS]}

    @property
    def server_domain(self) -> TrustDomain | None:
        """The trust domain of its endpoint's server, whose bundle verifies it; None without one."""
        endpoint = self.federated.endpoint if self.federated is not None else None
        server = endpoint.spiffe_id if endpoint is not None else None
        return None if server is None else server.trust_domain

    def is_visible_in(self, namespace: str) -> bool:
        """Tell whether pods of a namespace may trust it."""
        return any(pattern.matches(namespace) for pattern in self.namespaces)
