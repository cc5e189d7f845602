# SPDX-License-Identifier: Apache-2.0
"""What is to be published: a trust bundle under a name, for a signer name.

Rules:
    1. An empty bundle is never published: a kubelet would have to hold or empty files for a
       mistake of ours. Nothing to publish is no publication.
    2. The same authorities are the same text: PEM, in the order of their SHA-256.
    3. What the API server would refuse is refused here, by name.

Spec: certificates.k8s.io ClusterTrustBundle: names, 1 MiB, labels of at most 63 characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kubetls_sdk._nobody import nobody_pem
from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.exceptions import ConfigurationError
from webhook.names import (
    PARTNER_SIGNER_NAME,
    TRUST_DOMAIN_LABEL,
    bundle_file,
    bundle_name,
    partner_bundle_name,
)
from webhook.trust.labels import MANAGED, WITHDRAWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kubetls_sdk.spiffe_id import TrustDomain
    from webhook.config import Partner, PlatformConfig, Zone

__all__ = (
    "MAX_BYTES",
    "Publication",
    "fallback_name",
    "of_partner",
    "of_withdrawn",
    "of_zone",
    "partner_fallback_name",
    "wanted_names",
)

MAX_BYTES: Final = 1024 * 1024
_MAX_NAME: Final = 253
_SUBDOMAIN = re.compile(
    r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*", re.ASCII
)
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Publication:
    """A bundle with its name, signer and labels.

    Attributes:
        name: Of the ClusterTrustBundle.
        signer_name: Its signer.
        key: Name of the file in the ConfigMap fallback.
        labels: By which it is selected, and found again.
        bundle: What is trusted.
        fallback: Name of the ConfigMap where the API is missing; None: there is none.
        annotations: What is to be remembered with it.

    Raises:
        ConfigurationError: The API server would not take it.
    """

    name: str
    signer_name: str
    key: str
    labels: dict[str, str]
    bundle: TrustBundle
    fallback: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        prefix, _, rest = self.name.rpartition(":")
        is_named = prefix == self.signer_name.replace("/", ":") and _SUBDOMAIN.fullmatch(rest)
        if not is_named or len(self.name) > _MAX_NAME:
            raise ConfigurationError(f"expected a name that a bundle can have, got {self.name!r}")
        for value in self.labels.values():
            if not _LABEL.fullmatch(value):
                raise ConfigurationError(f"expected a value that a label can have, got {value!r}")
        if not self.bundle.authorities:
            raise ConfigurationError(f"expected an authority in {self.name}: never published empty")
        if len(self.text) > MAX_BYTES:
            raise ConfigurationError(f"expected at most {MAX_BYTES} bytes of PEM in {self.name}")

    @property
    def text(self) -> str:
        """The PEM text."""
        return self.bundle.to_pem().decode("ascii")


def of_zone(zone: Zone, bundle: TrustBundle, *, partner: Partner | None = None) -> Publication:
    """Publish a zone's authorities, for its own signer name and trust domain.

    Args:
        zone: It.
        bundle: Its authorities.
        partner: What it is declared as; by its label pods of other zones find the bundle, and lose
            it when the label goes.

    Raises:
        ConfigurationError: The bundle is of another domain, or the API server would not take it.
    """
    _check_domain(bundle, zone.trust_domain, f"in zone {zone.name!r}")
    return Publication(
        bundle_name(zone.signer_name, zone.trust_domain),
        zone.signer_name,
        bundle_file(zone.trust_domain),
        {
            **MANAGED,
            TRUST_DOMAIN_LABEL: str(zone.trust_domain),
            **(partner.labels if partner else {}),
        },
        bundle,
        fallback=fallback_name(zone),
    )


def of_partner(
    partner: Partner, bundle: TrustBundle, annotations: Mapping[str, str] | None = None
) -> Publication:
    """Publish a partner's authorities under its own name, which no selector of ours matches.

    Args:
        partner: It.
        bundle: Its authorities.
        annotations: What is to be remembered with them.

    Raises:
        ConfigurationError: The bundle is of another domain, or the API server would not take it.
    """
    _check_domain(bundle, partner.trust_domain, f"for partner {partner.name!r}")
    return Publication(
        partner_bundle_name(partner.name),
        PARTNER_SIGNER_NAME,
        bundle_file(partner.trust_domain),
        {**MANAGED, **partner.labels},
        bundle,
        fallback=partner_fallback_name(partner),
        annotations=annotations or {},
    )


def of_withdrawn(partner: Partner, why: str, annotations: Mapping[str, str]) -> Publication:
    """Remember a partner whose authorities are not in force.

    No volume finds it, since it has not the partner's label. Whoever takes it by its name trusts an
    authority that nobody has the key of: the API server has no empty bundles.

    Args:
        partner: It.
        why: One word, for people.
        annotations: What is to be remembered.
    """
    return Publication(
        partner_bundle_name(partner.name),
        PARTNER_SIGNER_NAME,
        bundle_file(partner.trust_domain),
        dict(MANAGED),
        TrustBundle.from_pem(partner.trust_domain, nobody_pem()),
        fallback=partner_fallback_name(partner),
        annotations={**annotations, WITHDRAWN: why},
    )


def wanted_names(config: PlatformConfig) -> frozenset[str]:
    """The names of all bundles that may exist, whether or not they can be made just now."""
    zones = (bundle_name(each.signer_name, each.trust_domain) for each in config.zones.values())
    return frozenset(zones) | frozenset(map(partner_bundle_name, config.outside))


def fallback_name(zone: Zone) -> str:
    """Name the ConfigMap of a zone's bundle, where there are no ClusterTrustBundles."""
    return f"kubetls-trust-{zone.name}"


def partner_fallback_name(partner: Partner) -> str | None:
    """Name the ConfigMap of a bundle that is fetched; one that is configured needs none."""
    return None if partner.federated is None else f"kubetls-partner-{partner.name}"


def _check_domain(bundle: TrustBundle, expected: TrustDomain, where: str) -> None:
    if bundle.trust_domain != expected:
        raise ConfigurationError(
            f"expected authorities of {str(expected)!r} {where},"
            f" got those of {str(bundle.trust_domain)!r}"
        )
