# SPDX-License-Identifier: Apache-2.0
"""The graph of a configuration: who gets an identity from which zone, and who may trust whom.

Rules:
    1. The first rule that names a namespace decides, as in `PlatformConfig.rule_for`: what earlier
       rules took is not shown again.
    2. Two workloads can connect when each has the other's bundle. A zone's own is always in its
       pods' volumes; a partner's only where pods may ask for it.
    3. A partner that has the trust domain of a zone is that zone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from webhook.zones.name_patterns import common, is_covered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubetls_sdk.spiffe_id import TrustDomain
    from webhook.config import NamePattern, NamespaceRule, Partner, PlatformConfig, Zone

__all__ = ("Ask", "Graph", "Group", "Reach")


class Reach(Enum):
    """Whether workloads of a zone can connect with those of a trust domain.

    OWN: both are of one zone.
    BOTH: pods of each may ask for the other's bundle.
    IF_TRUSTED: an outside partner, whose bundle pods may ask for; whether it trusts us is its own.
    ONE_SIDED: pods here may trust them, and none there trusts us: no connection.
    TRUSTED_ONLY: pods there may trust us, and none here trusts them: no connection.
    NEVER: neither may have the other's bundle.
    """

    OWN = "own zone"
    BOTH = "both may ask"
    IF_TRUSTED = "if it trusts us"
    ONE_SIDED = "one-sided"
    TRUSTED_ONLY = "trusted only"
    NEVER = "never"

    @property
    def can_connect(self) -> bool:
        """Whether there are pods that can."""
        return self in {Reach.OWN, Reach.BOTH, Reach.IF_TRUSTED}


@dataclass(frozen=True, slots=True)
class Ask:
    """A partner that pods of a group may ask for.

    Attributes:
        partner: The partner.
        names: In which of the group's namespaces.
        is_everywhere: Whether in all of them.
    """

    partner: Partner
    names: tuple[NamePattern, ...]
    is_everywhere: bool


@dataclass(frozen=True, slots=True)
class Group:
    """The namespaces that one rule decides about.

    Attributes:
        number: Of the rule, from 1.
        rule: What is allowed.
        names: Those of the rule's names that no earlier rule took; none: it decides nothing.
        asks: Which partners, in the order of the configuration.
    """

    number: int
    rule: NamespaceRule
    names: tuple[NamePattern, ...]
    asks: tuple[Ask, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """A configuration as a graph.

    Args:
        config: The platform's.

    Attributes:
        groups: One for each rule, in order.
    """

    config: PlatformConfig
    groups: tuple[Group, ...]

    @classmethod
    def of(cls, config: PlatformConfig) -> Graph:
        """Draw it."""
        taken: list[NamePattern] = []
        groups: list[Group] = []
        for number, rule in enumerate(config.rules, start=1):
            names = tuple(name for name in rule.names if not is_covered(name, taken))
            asks = tuple(_asks(config, rule, names, taken)) if names else ()
            groups.append(Group(number, rule, names, asks))
            taken += rule.names
        return cls(config, tuple(groups))

    @property
    def zones(self) -> tuple[Zone, ...]:
        """In the order of the configuration."""
        return tuple(self.config.zones.values())

    @property
    def outside(self) -> tuple[Partner, ...]:
        """The partners that are not zones of ours."""
        partners = self.config.partners.values()
        return tuple(each for each in partners if self.zone_of(each) is None)

    @property
    def domains(self) -> dict[TrustDomain, str]:
        """The names of all that is trusted: the zones, then the partners outside."""
        zones = {zone.trust_domain: zone.name for zone in self.zones}
        return zones | {each.trust_domain: each.name for each in self.outside}

    def zone_of(self, partner: Partner) -> Zone | None:
        """The zone of ours that a partner is; None: another organisation's."""
        return next((z for z in self.zones if z.trust_domain == partner.trust_domain), None)

    def askers(self, zone: Zone, domain: TrustDomain) -> tuple[tuple[Group, Ask], ...]:
        """The groups whose pods of a zone may ask for a trust domain's bundle."""
        return tuple(
            (group, ask)
            for group in self.groups
            for ask in group.asks
            if zone.name in group.rule.zones and ask.partner.trust_domain == domain
        )

    def reach(self, zone: Zone, domain: TrustDomain) -> Reach:
        """Whether workloads of a zone can connect with those of a trust domain."""
        if zone.trust_domain == domain:
            return Reach.OWN
        other = next((each for each in self.zones if each.trust_domain == domain), None)
        trusts = bool(self.askers(zone, domain))
        if other is None:
            return Reach.IF_TRUSTED if trusts else Reach.NEVER
        is_trusted = bool(self.askers(other, zone.trust_domain))
        both = {
            (True, True): Reach.BOTH,
            (True, False): Reach.ONE_SIDED,
            (False, True): Reach.TRUSTED_ONLY,
        }
        return both.get((trusts, is_trusted), Reach.NEVER)


def _asks(
    config: PlatformConfig,
    rule: NamespaceRule,
    names: tuple[NamePattern, ...],
    taken: list[NamePattern],
) -> Iterator[Ask]:
    domains = {config.zones[name].trust_domain for name in rule.zones}
    for partner in config.partners.values():
        found = common(names, partner.namespaces, without=taken)
        if found and domains != {partner.trust_domain}:
            everywhere = all(is_covered(name, partner.namespaces) for name in names)
            yield Ask(partner, found, everywhere)
