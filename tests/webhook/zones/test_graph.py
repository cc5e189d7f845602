# SPDX-License-Identifier: Apache-2.0
"""The graph says what the configuration decides, and no more."""

import itertools

import pytest

from tests.webhook.zones.platforms import partner, platform, zone_partner
from webhook.choice import choose
from webhook.exceptions import AdmissionDenied
from webhook.zones.graph import Graph, Reach

NAMESPACES = ("kube-system", "payments", "card-eu", "lab-1", "shop", "tools")


def graph(**settings):
    return Graph.of(platform(**settings))


def asked(found, number):
    """What pods of a rule may ask for: partner, where, and whether everywhere."""
    asks = found.groups[number - 1].asks
    return {
        ask.partner.name: ([each.text for each in ask.names], ask.is_everywhere) for ask in asks
    }


class TestGroups:
    def test_first_match_wins(self):
        """A partner is shown only where the rule decides, not in an earlier rule's namespaces."""
        found = graph(partners=[partner(namespaces=["shop", "payments"])])
        assert asked(found, 2) == {"acme": (["payments"], False)}
        assert asked(found, 4) == {"acme": (["shop"], False)}

    def test_everywhere(self):
        """A partner of all of a rule's namespaces."""
        assert asked(graph(partners=[partner(namespaces=["*"])]), 2) == {
            "acme": (["payments", "card-*"], True)
        }

    def test_a_rule_that_decides_nothing(self):
        """Its names were taken; nobody there may ask for anything."""
        found = graph(rules=[{"names": ["*"]}, {"names": ["shop"]}])
        assert found.groups[1].names == ()
        assert asked(found, 2) == {}

    @pytest.mark.parametrize("namespace", NAMESPACES)
    @pytest.mark.parametrize("visible", ["shop", "*", "card-*", "payments", "lab-1*"])
    def test_as_the_injector_decides(self, namespace, visible):
        """A pod may ask for a partner exactly where the graph says so."""
        config = platform(partners=[partner(namespaces=[visible])])
        try:
            chosen = choose(config, namespace, {"kubetls.gauntletwizard.net/partners": "acme"})
        except AdmissionDenied:
            chosen = None
        drawn = [
            name
            for group in Graph.of(config).groups
            for ask in group.asks
            for name in ask.names
            if name.matches(namespace) and group.rule is config.rule_for(namespace)
        ]
        assert bool(drawn) is bool(chosen)


class TestReach:
    def test_own_zone(self):
        """Workloads of one zone reach each other."""
        found = graph()
        assert {found.reach(zone, zone.trust_domain) for zone in found.zones} == {Reach.OWN}

    def test_zones_do_not_trust_each_other(self):
        """Two zones cannot reach each other unless the configuration says so."""
        found = graph()
        pairs = itertools.permutations(found.zones, 2)
        assert {found.reach(one, other.trust_domain) for one, other in pairs} == {Reach.NEVER}

    def test_partner(self):
        """A partner is reached by the zones whose pods may ask for it, and by no other."""
        found = graph(partners=[partner(namespaces=["shop"])])
        (acme,) = found.outside
        reach = {zone.name: found.reach(zone, acme.trust_domain) for zone in found.zones}
        assert reach == {"main": Reach.IF_TRUSTED, "pci": Reach.NEVER, "lab": Reach.NEVER}

    def test_a_zone_that_may_be_chosen(self):
        """Where pods choose between zones, those of each may ask."""
        found = graph(partners=[partner(namespaces=["lab-1"])])
        (acme,) = found.outside
        reach = {zone.name: found.reach(zone, acme.trust_domain) for zone in found.zones}
        assert reach == {"main": Reach.IF_TRUSTED, "pci": Reach.NEVER, "lab": Reach.IF_TRUSTED}


class TestZonesAsPartners:
    def reach(self, *partners):
        """How main and pci reach each other, each way."""
        found = graph(partners=partners)
        main, pci = found.config.zones["main"], found.config.zones["pci"]
        return found.reach(main, pci.trust_domain), found.reach(pci, main.trust_domain)

    def test_both(self):
        """Where each may ask for the other, they can connect."""
        found = self.reach(zone_partner("pci", ["shop"]), zone_partner("main", ["payments"]))
        assert found == (Reach.BOTH, Reach.BOTH)

    def test_one_sided(self):
        """Trust that is not returned is no connection."""
        found = self.reach(zone_partner("pci", ["shop"]))
        assert found == (Reach.ONE_SIDED, Reach.TRUSTED_ONLY)

    def test_where_there_is_no_rule(self):
        """A partner of namespaces of that very zone is nobody's trust."""
        found = self.reach(zone_partner("pci", ["payments"]))
        assert found == (Reach.NEVER, Reach.NEVER)

    def test_the_third_zone(self):
        """A third zone that may ask, and is not asked for, is as far as before."""
        found = graph(partners=[zone_partner("pci", ["*"]), zone_partner("main", ["payments"])])
        lab, domains = found.config.zones["lab"], list(found.domains)
        reach = [found.reach(lab, each) for each in domains[:2]]
        assert reach == [Reach.NEVER, Reach.ONE_SIDED]

    def test_is_no_partner_outside(self):
        """It is drawn as the zone that it is."""
        assert graph(partners=[zone_partner("pci", ["shop"])]).outside == ()
