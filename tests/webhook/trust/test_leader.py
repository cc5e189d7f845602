# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import logging

import pytest
from prometheus_client import REGISTRY

from kubetls_sdk.testing import DevelopmentCA
from tests.webhook.trust.world import BUNDLE, NAMESPACE, PLATFORM, PROPAGATION, START, World, until
from webhook.api.errors import ForbiddenError
from webhook.api.resources import (
    CLUSTER_TRUST_BUNDLES,
    CONFIG_MAPS,
    CSI_DRIVERS,
    CSI_NODES,
    MUTATING_WEBHOOK_CONFIGURATIONS,
    NODES,
    SECRETS,
)
from webhook.capabilities import Capabilities
from webhook.config import PlatformConfig
from webhook.trust.capability_report import report
from webhook.trust.leader import Leader, lead
from webhook.trust.rotation import FORCE_WORD

pytestmark = pytest.mark.anyio

PARTNER_CA = DevelopmentCA("partner.example", now=START)
PARTNER_BUNDLE = "kubetls.gauntletwizard.net:partner:acme"
PEM = PARTNER_CA.bundle.to_pem().decode().replace("\n", "\n      ").rstrip()
WITH_PARTNER = (
    PLATFORM
    + f"""\
partners:
  - name: acme
    trustDomain: partner.example
    namespaces: ["*"]
    bundle: |
      {PEM}
"""
)
TWO_ZONES = PLATFORM.replace(
    "namespaces:", "  - name: second\n    trustDomain: second.example\nnamespaces:"
)


class Configuration:
    """What the ConfigMap says at the moment."""

    def __init__(self, text):
        self.text = text

    async def fresh(self):
        return PlatformConfig.parse(self.text)


class Term:
    """A leader's term in a world."""

    def __init__(self, platform=PLATFORM, **options):
        self.world = World(platform)
        self.api = self.world.api
        self.configuration = Configuration(platform)
        self.leader = Leader(self.api, self.configuration, clock=self.world.clock, **options)

    async def round(self):
        """One round, as `run` does it, and the end of what it watches."""
        try:
            await self.leader.round()
        finally:
            await self.leader._follow_bundles(None)
            await self.leader._pool_source.follow(())
            await self.leader._replaced.follow((), None)

    def bundles(self):
        return {body["metadata"]["name"] for body in self.api.all(CLUSTER_TRUST_BUNDLES)}


def _labels_and_text(term, name):
    body = term.api.find(CLUSTER_TRUST_BUNDLES, name)
    return body["metadata"]["labels"], body["spec"]["trustBundle"]


def value(name, **labels):
    return REGISTRY.get_sample_value(name, labels)


class TestRound:
    async def test_a_new_cluster_has_all_it_needs_after_one(self):
        """Pools, bundles of zones and partners, and the webhook's certificate."""
        term = Term(WITH_PARTNER)
        client = {"service": {"name": "kubetls-webhook", "namespace": NAMESPACE}}
        term.api.put(
            MUTATING_WEBHOOK_CONFIGURATIONS,
            {"metadata": {"name": "kubetls-injector"}, "webhooks": [{"clientConfig": client}]},
        )
        await term.round()
        assert term.bundles() == {BUNDLE, PARTNER_BUNDLE}
        assert term.api.find(SECRETS, "kubetls-ca-default", NAMESPACE)
        assert term.api.find(SECRETS, "kubetls-webhook-tls", NAMESPACE)
        assert value("kubetls_ca_authorities", zone="default", state="active") == 1
        assert value("kubetls_leader_failing_tasks") == 0

    async def test_the_serving_certificate_may_be_somebody_else_s(self):
        """Then its configuration is not even read."""
        term = Term(keeps_serving=False)
        await term.round()
        assert not term.api.calls_of("get", MUTATING_WEBHOOK_CONFIGURATIONS)

    async def test_a_partner_goes_when_the_configuration_says_so(self):
        """At once, with its bundle."""
        term = Term(WITH_PARTNER)
        await term.round()
        term.configuration.text = PLATFORM
        await term.round()
        assert term.bundles() == {BUNDLE}

    async def test_a_zone_is_a_partner_as_long_as_the_configuration_says_so(self):
        """Its own bundle gets the partner's label, and loses it; nothing more is published."""
        friend = "partners: [{name: friend, zone: second, namespaces: [shop]}]\n"
        name = "kubetls.gauntletwizard.net:second:second.example"
        term = Term(TWO_ZONES + friend)
        await term.round()
        assert term.bundles() == {BUNDLE, name}
        labels, roots = _labels_and_text(term, name)
        assert labels["kubetls.gauntletwizard.net/partner"] == "friend"
        assert labels["kubetls.gauntletwizard.net/trust-domain"] == "second.example"
        term.configuration.text = TWO_ZONES
        await term.round()
        assert "kubetls.gauntletwizard.net/partner" not in _labels_and_text(term, name)[0]
        assert _labels_and_text(term, name)[1] == roots
        assert "kubetls.gauntletwizard.net/partner" not in _labels_and_text(term, BUNDLE)[0]

    async def test_a_zone_that_goes_takes_its_bundle_and_leaves_its_pool(self):
        """Keys are destroyed by an order, not by an edit of the configuration."""
        term = Term(TWO_ZONES)
        await term.round()
        assert value("kubetls_ca_authorities", zone="second", state="active") == 1
        term.configuration.text = PLATFORM
        await term.round()
        assert term.bundles() == {BUNDLE}
        assert term.api.find(SECRETS, "kubetls-ca-second", NAMESPACE)
        assert value("kubetls_ca_authorities", zone="second", state="active") is None

    async def test_a_zone_that_fails_stops_no_other_one(self, caplog):
        """It is told once, and counted until it is well again."""
        term = Term(TWO_ZONES)
        metadata = {"name": "kubetls-ca-default", "namespace": NAMESPACE}
        term.api.put(SECRETS, {"metadata": metadata, "type": "Opaque"})
        with caplog.at_level(logging.INFO):
            await term.round()
            await term.round()
        assert term.bundles() == {"kubetls.gauntletwizard.net:second:second.example"}
        assert [r.message for r in caplog.records if r.message.startswith("zone default")] == [
            "zone default: expected a Secret of type kubetls.gauntletwizard.net/ca-pool,"
            " got another one"
        ]
        assert value("kubetls_leader_failing_tasks") == 1
        term.api.remove(SECRETS, "kubetls-ca-default", NAMESPACE)
        await term.round()
        assert value("kubetls_leader_failing_tasks") == 0

    async def test_a_mistake_of_ours_stops_no_other_zone(self, caplog):
        """Whatever a zone's pool makes of our code, the others and the process go on."""
        term = Term(TWO_ZONES)
        term.api.fail("create", RuntimeError("a bug"), resource=SECRETS)
        await term.round()
        assert term.bundles() == {"kubetls.gauntletwizard.net:second:second.example"}
        assert value("kubetls_leader_failing_tasks") == 1
        assert "RuntimeError: a bug" in caplog.text
        await term.round()
        assert value("kubetls_leader_failing_tasks") == 0

    async def test_a_zone_that_fails_keeps_what_is_published(self):
        """Its pool cannot be read: its pods go on trusting what they did."""
        term = Term()
        await term.round()
        secret = term.api.find(SECRETS, "kubetls-ca-default", NAMESPACE)
        secret["data"] = {}
        term.api.put(SECRETS, secret)
        before = term.api.all(CLUSTER_TRUST_BUNDLES)
        await term.round()
        assert term.api.all(CLUSTER_TRUST_BUNDLES) == before

    async def test_a_zone_whose_trust_domain_was_changed_keeps_its_bundle(self):
        """Its pool is of the old one: a mistake must not take their trust from running pods."""
        term = Term()
        await term.round()
        term.configuration.text = PLATFORM.replace("example.org", "example.net")
        await term.round()
        assert term.bundles() == {BUNDLE}
        assert value("kubetls_leader_failing_tasks") == 1

    async def test_a_failing_task_of_the_past_is_forgotten(self):
        """When the configuration no longer has the zone."""
        term = Term(TWO_ZONES)
        metadata = {"name": "kubetls-ca-second", "namespace": NAMESPACE}
        term.api.put(SECRETS, {"metadata": metadata, "type": "Opaque"})
        await term.round()
        assert value("kubetls_leader_failing_tasks") == 1
        term.configuration.text = PLATFORM
        await term.round()
        assert value("kubetls_leader_failing_tasks") == 0

    async def test_a_right_that_is_missing_is_told(self, caplog):
        """An RBAC mistake is a message, not a crash."""
        term = Term()
        term.api.fail("create", ForbiddenError("POST secrets: 403 Forbidden"), resource=SECRETS)
        await term.round()
        assert "zone default: POST secrets: 403 Forbidden" in caplog.text


class TestRun:
    async def leading(self, term):
        task = asyncio.create_task(
            lead(term.api, term.configuration, clock=term.world.clock, keeps_serving=False)
        )
        await until(lambda: term.bundles() >= {BUNDLE})
        return task

    async def ended(self, task):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_an_order_is_carried_out_at_once(self):
        """A watch on the pool wakes the leader."""
        term = Term()
        task = await self.leading(term)
        await until(lambda: term.api.watch_count >= 3)
        await term.world.orders().rotate(force_propagation=FORCE_WORD)
        await until(lambda: "retired" in term.world.states())
        await self.ended(task)

    async def test_edits_of_bundles_are_reverted_at_once(self):
        """A watch on the bundles wakes it too."""
        term = Term()
        task = await self.leading(term)
        await until(lambda: term.api.watch_count >= 3)
        right = term.world.published()
        term.world.vandalise("")
        await until(lambda: term.world.published() == right)
        await self.ended(task)

    async def test_a_changed_configuration_is_seen(self, monkeypatch):
        """It is looked at all the time."""
        monkeypatch.setattr("webhook.trust.leader._LOOK_SECONDS", 0.01)
        term = Term()
        task = await self.leading(term)
        term.configuration.text = WITH_PARTNER
        await until(lambda: PARTNER_BUNDLE in term.bundles())
        await self.ended(task)

    async def test_it_tells_what_the_cluster_can_do(self):
        """Nodes included, as they come."""
        term = Term()
        node = {"metadata": {"name": "n1"}, "status": {"nodeInfo": {"kubeletVersion": "v1.34.2"}}}
        term.api.put(NODES, node)

        def told():
            body = term.api.find(CONFIG_MAPS, "kubetls-capabilities", NAMESPACE)
            return body and Capabilities.parse(body["data"]["capabilities.json"]).old_nodes

        task = await self.leading(term)
        await until(lambda: told() == ("n1",))
        term.api.remove(NODES, "n1")
        await until(lambda: told() == ())
        await self.ended(task)

    async def test_nodes_without_the_csi_driver(self):
        """The next leader goes on with what the last one found, until a node has the driver."""
        term = Term()
        driver = "csi.kubetls.gauntletwizard.net"
        found = Capabilities(nodes_without_driver=("n1", "n2"))
        await report(term.api, found, namespace=NAMESPACE)
        term.api.put(CSI_DRIVERS, {"metadata": {"name": driver}})
        for name, drivers in {"n1": [], "n2": [{"name": driver}], "n3": []}.items():
            nodes = {
                "metadata": {"name": name},
                "status": {"nodeInfo": {"kubeletVersion": "v1.37.0"}},
            }
            term.api.put(NODES, nodes)
            term.api.put(CSI_NODES, {"metadata": {"name": name}, "spec": {"drivers": drivers}})

        def told():
            body = term.api.find(CONFIG_MAPS, "kubetls-capabilities", NAMESPACE)
            return Capabilities.parse(body["data"]["capabilities.json"])

        task = await self.leading(term)
        await until(lambda: told() == Capabilities(nodes_without_driver=("n1",)))
        await self.ended(task)

    async def test_at_the_end_nothing_is_left(self):
        """Watches are closed, and gauges that only a leader knows are gone."""
        term = Term()
        task = await self.leading(term)
        await self.ended(task)
        assert term.api.watch_count == 0
        assert value("kubetls_ca_authorities", zone="default", state="active") is None

    async def test_a_rotation_ends_early_when_its_pods_have_gone(self, monkeypatch):
        """Nobody holds a leaf of the old root: it need not wait for its expiry."""
        monkeypatch.setattr("webhook.trust.leader._WATCHFUL_SECONDS", 0.01)
        monkeypatch.setattr("webhook.trust.leader._BUSY_SECONDS", 0.01)
        term = Term()
        task = await self.leading(term)
        await term.world.orders().rotate(force_propagation=FORCE_WORD)
        await until(lambda: "retired" in term.world.states())
        term.world.clock.pass_(PROPAGATION)
        await until(lambda: term.world.states() == ["active"])
        assert len(term.world.published()) == 1
        await self.ended(task)


class TestClock:
    @pytest.mark.parametrize("ahead", [3600.0, -180.0], ids=["ahead", "behind"])
    async def test_one_that_is_wrong(self, ahead, caplog):
        """By a wrong clock roots would be replaced and withdrawn at the wrong time: nothing is."""
        term = Term()
        term.api.clock_ahead = ahead
        await term.round()
        assert term.bundles() == set()
        assert term.api.all(SECRETS) == []
        assert value("kubetls_leader_failing_tasks") == 1
        assert "from the API server's" in caplog.text

    @pytest.mark.parametrize("ahead", [None, 0.0, 30.0, -30.0])
    async def test_one_that_is_near(self, ahead):
        """Seconds are usual, and a clock that was not compared yet is not suspected."""
        term = Term()
        term.api.clock_ahead = ahead
        await term.round()
        assert term.bundles() == {BUNDLE}

    async def test_one_that_is_set_right(self):
        """It goes on as soon as both agree."""
        term = Term()
        term.api.clock_ahead = 3600.0
        await term.round()
        term.api.clock_ahead = 1.0
        await term.round()
        assert term.bundles() == {BUNDLE}
        assert value("kubetls_leader_failing_tasks") == 0
