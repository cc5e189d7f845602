# SPDX-License-Identifier: Apache-2.0
"""The platform's configuration: zones of trust, partners, and what each namespace may have.

Injector, signer and secret issuer read the same text and ask the same questions, so that what is
admitted is what is issued. `config_document` reads it from YAML.

Rules:
    1. The trust domain has no default: two clusters of one name would mint the same identities.
    2. The first rule of `namespaces` that names a namespace decides; none: no certificates there.
    3. What a pod chooses is looked up here and nowhere else (`Terms`).
    4. A signer name, and a trust domain, belongs to one zone only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from kubetls_sdk.exceptions import ConfigurationError
from webhook.name_pattern import NamePattern
from webhook.names import PARTNER_SIGNER_NAME
from webhook.partner import Partner

if TYPE_CHECKING:
    from kubetls_sdk.bundle import TrustBundle
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = (
    "KeyType",
    "Lifetime",
    "Mode",
    "NamePattern",
    "NamespaceRule",
    "Partner",
    "PlatformConfig",
    "TrustStore",
    "Zone",
)

SHORTEST_LIFETIME: Final = timedelta(hours=1)
LONGEST_LIFETIME: Final = timedelta(days=91)
_LABEL_VALUE: Final = re.compile(
    r"(?=.{1,63}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*", re.ASCII
)


class Mode(StrEnum):
    """How key, certificate and trust bundle reach a pod."""

    POD_CERTIFICATE = "pod-certificate"
    CSI = "csi"
    SECRET = "secret"  # noqa: S105 - the name of a mode


class TrustStore(StrEnum):
    """Whom programs of a pod believe that do not choose themselves."""

    IMAGE = "image"
    INTERNAL = "internal"


class KeyType(StrEnum):
    """Kubernetes' names of the key types that a pod certificate may have."""

    ECDSA_P256 = "ECDSAP256"
    ECDSA_P384 = "ECDSAP384"
    ECDSA_P521 = "ECDSAP521"
    ED25519 = "ED25519"
    RSA_3072 = "RSA3072"
    RSA_4096 = "RSA4096"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Of certificates.

    Attributes:
        default: When a pod does not choose.
        maximum: The longest that a pod may choose, and that is ever issued.
    """

    default: timedelta
    maximum: timedelta

    def __post_init__(self) -> None:
        if not SHORTEST_LIFETIME <= self.default <= self.maximum <= LONGEST_LIFETIME:
            raise ConfigurationError(
                "expected lifetimes from 1h to 91d, and the default within the maximum"
            )


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone of trust: one trust domain, one signer name, one set of authorities.

    Attributes:
        name: Of the zone, a DNS label.
        trust_domain: Its workloads' trust domain.
        signer_name: What a pod's volume asks for; decides the zone.
        external_signer: Signer name of somebody else's signer that signs for the Secret mode;
            None: our own CA pool.
        bundle: The configured authorities when an external signer signs; None with our own pool.
        propagation: How long after its publication a new root may sign, at the earliest.

    Raises:
        ConfigurationError: A signer name belongs to somebody else, or the trust domain is no value
            of a label: its bundle could not be published.
    """

    name: str
    trust_domain: TrustDomain
    signer_name: str
    external_signer: str | None = None
    bundle: TrustBundle | None = None
    propagation: timedelta = timedelta(minutes=10)

    def __post_init__(self) -> None:
        if self.signer_name == PARTNER_SIGNER_NAME:
            raise ConfigurationError(
                f"expected another signer name than {PARTNER_SIGNER_NAME}: the bundles of partners"
                " have it"
            )
        for name in (self.signer_name, self.external_signer or ""):
            if f".{name}".split("/")[0].endswith(".kubernetes.io"):
                raise ConfigurationError("expected a signer name outside of kubernetes.io")
        if not _LABEL_VALUE.fullmatch(str(self.trust_domain)):
            raise ConfigurationError(
                "expected the trust domain of a zone to be a DNS name of at most 63 characters,"
                f" got {str(self.trust_domain)!r}"
            )


@dataclass(frozen=True, slots=True)
class NamespaceRule:
    """What pods of the namespaces that it names may have; the first of each is the default.

    Attributes:
        names: Which namespaces.
        zones: Names of zones a pod may choose from.
        modes: Delivery modes, in the order of preference.
        key_types: A pod may choose from.
        lifetime: Default and maximum.
        mount_paths: A pod may choose from.
        trust_stores: A pod may choose from.
        short_names: Whether `<service>.<namespace>` is a DNS name of a certificate too.
        injects_all: Whether pods are injected unless they say `inject: "false"`; else only those
            that say `inject: "true"`.
    """

    names: tuple[NamePattern, ...]
    zones: tuple[str, ...]
    modes: tuple[Mode, ...]
    key_types: tuple[KeyType, ...]
    lifetime: Lifetime
    mount_paths: tuple[str, ...]
    trust_stores: tuple[TrustStore, ...] = (TrustStore.IMAGE, TrustStore.INTERNAL)
    short_names: bool = False
    injects_all: bool = True

    def names_namespace(self, namespace: str) -> bool:
        """Tell whether the rule is about a namespace."""
        return any(pattern.matches(namespace) for pattern in self.names)


@dataclass(frozen=True, slots=True)
class PlatformConfig:
    """The whole configuration.

    Attributes:
        zones: By name, at least one.
        partners: By name.
        rules: In order.
        cluster_domain: Suffix of the cluster's DNS names, such as `cluster.local`.

    Raises:
        ConfigurationError: A signer name or trust domain twice, an unknown zone, or an endpoint
            whose server is of an unknown trust domain.
    """

    zones: dict[str, Zone]
    rules: tuple[NamespaceRule, ...]
    partners: dict[str, Partner]
    cluster_domain: str = "cluster.local"

    def __post_init__(self) -> None:
        signers = [zone.signer_name for zone in self.zones.values()]
        domains = [zone.trust_domain for zone in self.zones.values()]
        domains += [partner.trust_domain for partner in self.outside.values()]
        if not self.zones:
            raise ConfigurationError("expected at least one zone with a trust domain")
        if len(set(signers)) != len(signers):
            raise ConfigurationError("expected each signer name in one zone only")
        if not {zone.external_signer for zone in self.zones.values()}.isdisjoint(signers):
            raise ConfigurationError("expected an external signer, got a signer name of our own")
        if len(set(domains)) != len(domains):
            raise ConfigurationError("expected each trust domain in one zone or partner only")
        self._check_partner_zones()
        self._check_servers()
        for rule in self.rules:
            if unknown := set(rule.zones) - set(self.zones):
                raise ConfigurationError(f"expected a configured zone, got {min(unknown)!r}")

    def _check_partner_zones(self) -> None:
        zones = [partner.zone for partner in self.partners.values() if partner.zone is not None]
        for zone in zones:
            if self.zones.get(zone.name) != zone:
                raise ConfigurationError(f"expected a configured zone, got {zone.name!r}")
            if zones.count(zone) > 1:
                raise ConfigurationError(f"expected zone {zone.name!r} as one partner only")

    def _check_servers(self) -> None:
        known = {partner.trust_domain for partner in self.outside.values()}
        for partner in self.partners.values():
            server = partner.server_domain
            if server is not None and server not in known:
                raise ConfigurationError(
                    f"partner {partner.name!r}: expected a partner of the trust domain of its"
                    f" spiffeId, got {str(server)!r}: without its bundle it cannot be verified"
                )

    @classmethod
    def parse(cls, text: str, *, file: str = "platform.yaml") -> PlatformConfig:
        """Read the YAML text.

        Raises:
            ConfigurationError: Not a valid configuration; the message has file and line.
        """
        from webhook.config_document import parse_platform

        return parse_platform(text, file=file)

    def rule_for(self, namespace: str) -> NamespaceRule | None:
        """What a namespace may have; None: nothing."""
        return next((rule for rule in self.rules if rule.names_namespace(namespace)), None)

    def zone_of_signer(self, signer_name: str) -> Zone | None:
        """The zone that a signer name stands for."""
        zones = self.zones.values()
        return next((zone for zone in zones if zone.signer_name == signer_name), None)

    @property
    def outside(self) -> dict[str, Partner]:
        """The partners that are not zones of ours, by name: those whose bundles we publish."""
        return {name: each for name, each in self.partners.items() if each.zone is None}

    def partner_that_is(self, zone: Zone) -> Partner | None:
        """The partner that a zone is declared as; None: no other zone may trust it."""
        return next((each for each in self.partners.values() if each.zone == zone), None)

    def partners_of(self, namespace: str) -> tuple[Partner, ...]:
        """The partners that pods of a namespace may trust."""
        return tuple(each for each in self.partners.values() if each.is_visible_in(namespace))
