# SPDX-License-Identifier: Apache-2.0
"""Which paths are served, and what is answered there while the cluster changes."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from prometheus_client import REGISTRY

from tests.waiting import eventually
from tests.webhook.endpoint.world import (
    CONFIG,
    OTHER,
    OTHER_PATH,
    PARTNER,
    PATH,
    ZONE,
    document,
)
from webhook.api.errors import UnreachableError
from webhook.api.resources import CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLES_V1BETA1
from webhook.endpoint.metrics import SEQUENCE
from webhook.endpoint.zone_publication import refresh_hint
from webhook.names import partner_bundle_name

pytestmark = pytest.mark.anyio


def metric(name, **labels):
    return REGISTRY.get_sample_value(f"kubetls_bundle_endpoint_{name}", labels)


class TestPaths:
    async def test_each_zone_has_its_own(self, world):
        """Each zone's authorities are at the path of its trust domain, and no others."""
        async with world.published() as zones:
            ours = document(zones.publication_at(PATH).answer("GET"))
            others = document(zones.publication_at(OTHER_PATH).answer("GET"), "other.example")
        assert ours.authorities == world.ca.bundle.authorities
        assert others.authorities == world.other.bundle.authorities

    @pytest.mark.parametrize(
        "path",
        [
            *("/", "", "/bundles", "/bundles/", PATH + "/", PATH.upper(), PATH + "%20", PATH[1:]),
            *("//bundles/example.org", "/bundles/../bundles/example.org", "/bundles/default"),
            pytest.param("/bundles/partner.example", id="a partner"),
        ],
    )
    async def test_exact(self, world, path):
        """Any other path is nothing, a partner's trust domain too."""
        async with world.published() as zones:
            assert zones.publication_at(path) is None

    async def test_partners_are_not_asked_for(self, world):
        """Each bundle is asked for by its name: a partner's is never received."""
        async with world.published() as zones:
            for informer in zones.informers():
                assert informer.get(None, partner_bundle_name("acme")) is None
            bodies = [zones.publication_at(path).answer("GET").body for path in (PATH, OTHER_PATH)]
        (theirs,) = PARTNER.bundle.authorities
        key = base64.b64encode(theirs.public_bytes(Encoding.DER))
        assert not any(key in body for body in bodies)

    async def test_removed_zone(self, world):
        """A zone that is no longer configured is gone with its metrics; the others stay."""
        async with world.published() as zones:
            stays = zones.publication_at(OTHER_PATH)
            await zones.follow_zones([OTHER])
            assert zones.publication_at(PATH) is None
            assert zones.publication_at(OTHER_PATH) is stays
            assert metric("authorities", zone="default") is None
            assert metric("authorities", zone="other") == 1

    async def test_removed_zone_that_was_never_published(self, world, monkeypatch):
        """It has no sequence to forget, which older metrics libraries take for an error."""
        SEQUENCE.clear()

        def strict(gauge, *labels):
            if labels not in gauge._metrics:
                raise KeyError(labels)

        monkeypatch.setattr(type(SEQUENCE), "remove", strict)
        world.withdraw()
        async with world.published() as zones:
            await zones.follow_zones([OTHER])
            assert zones.publication_at(PATH) is None
            assert zones.publication_at(OTHER_PATH) is not None

    async def test_new_zone(self, world):
        """A zone that is configured later is served as soon as its bundle was seen."""
        async with world.published() as zones:
            await zones.follow_zones([OTHER])
            await zones.follow_zones([OTHER, ZONE])
            assert not zones.is_out_of_date
            await zones.synced()
            assert document(zones.publication_at(PATH).answer("GET")).sequence


class TestChanges:
    async def test_sequence_grows(self, world):
        """A change of the authorities is served with the version of the object that has it."""
        async with world.published() as zones:
            at = zones.publication_at(PATH)
            before = document(at.answer("GET")).sequence
            world.ca.add_root()
            version = world.publish()
            found = await eventually(lambda: _with_roots(at, 2))
        assert found.sequence == version > before

    async def test_two_replicas_agree(self, world):
        """Replicas, one of which started after a change, serve the same bytes."""
        async with world.published() as first:
            world.ca.add_root()
            world.publish()
            async with world.published() as second:
                await eventually(lambda: _with_roots(first.publication_at(PATH), 2))
                answers = [each.publication_at(PATH).answer("GET") for each in (first, second)]
        assert answers[0] == answers[1]

    async def test_a_restart_forgets_nothing(self, world):
        """After a restart the number is not smaller."""
        numbers = []
        for _ in range(3):
            async with world.published() as zones:
                numbers.append(document(zones.publication_at(PATH).answer("GET")).sequence)
            world.publish(labels={"example.org/edited": str(len(numbers))})
        assert numbers == sorted(numbers)

    async def test_reverted_edit(self, world):
        """An edit that somebody else made and the leader reverted leaves a greater number."""
        async with world.published() as zones:
            at = zones.publication_at(PATH)
            before = document(at.answer("GET"))
            world.publish(bundle=PARTNER.bundle.to_pem().decode())
            await eventually(lambda: at.answer("GET").status == 503)
            world.publish()
            await eventually(lambda: at.answer("GET").status == 200)
            after = document(at.answer("GET"))
        assert after.authorities == before.authorities
        assert after.sequence > before.sequence

    async def test_deleted_bundle(self, world):
        """While a bundle is not there its path answers 503, and its successor's number is more."""
        async with world.published() as zones:
            at = zones.publication_at(PATH)
            before = document(at.answer("GET")).sequence
            world.withdraw()
            await eventually(lambda: at.answer("GET").status == 503)
            assert zones.publication_at(OTHER_PATH).answer("GET").status == 200
            assert not zones.is_out_of_date
            world.publish()
            await eventually(lambda: at.answer("GET").status == 200)
            assert document(at.answer("GET")).sequence > before

    @pytest.mark.parametrize(
        "resource", [CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLES_V1BETA1], ids=["v1", "v1beta1"]
    )
    async def test_either_version(self, world, resource):
        """Bundles of either version of the API are served."""
        world.resource = resource
        world.publish()
        async with world.published() as zones:
            assert document(zones.publication_at(PATH).answer("GET"))


class TestOutOfDate:
    async def test_bounded(self, world):
        """Without the API server the last bundle is served for a while, and then none."""
        async with world.published(max_stale=timedelta(seconds=0.4)) as zones:
            at = zones.publication_at(PATH)
            await eventually(lambda: not zones.is_out_of_date)
            world.api.fail("watch", UnreachableError("away"), times=None)
            world.api.disconnect()
            assert at.answer("GET").status == 200
            await eventually(lambda: at.answer("GET").status == 503)
            assert zones.is_out_of_date
            zones.tell()
            assert metric("authorities", zone="default") == 0
            world.api.heal()
            await eventually(lambda: at.answer("GET").status == 200, within=15)
            assert not zones.is_out_of_date


class TestRefreshHint:
    @pytest.mark.parametrize(
        ("seconds", "expected"), [(600, 120), (50, 10), (4, 1), (86400, 300), (1, 1)]
    )
    def test_within_propagation(self, seconds, expected):
        """Partners ask several times before a new root signs, and every five minutes at least."""
        zone = replace(CONFIG.zones["default"], propagation=timedelta(seconds=seconds))
        assert refresh_hint(zone) == expected

    async def test_in_the_document(self, world):
        """It stands in the document, and follows the configuration."""
        async with world.published() as zones:
            hint = document(zones.publication_at(OTHER_PATH).answer("GET"), "other.example")
            assert hint.refresh_hint == 10
            await zones.follow_zones([replace(OTHER, propagation=timedelta(seconds=500))])
            later = document(zones.publication_at(OTHER_PATH).answer("GET"), "other.example")
        assert later.refresh_hint == 100


class TestAnswers:
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
    async def test_reading_only(self, world, method):
        """Only GET and HEAD are answered."""
        async with world.published() as zones:
            assert zones.publication_at(PATH).answer(method).status == 405

    async def test_counted(self, world):
        """Answers are counted by zone and status, those of no zone together."""
        names = {"200": "default", "405": "default", "404": ""}
        before = {status: _answers(zone, status) for status, zone in names.items()}
        async with world.published() as zones:
            zones.publication_at(PATH).answer("GET")
            zones.publication_at(PATH).answer("POST")
            zones.publication_at("/secret-name")
        after = {status: _answers(zone, status) for status, zone in names.items()}
        assert {status: after[status] - before[status] for status in names} == dict.fromkeys(
            names, 1
        )

    async def test_gauges(self, world):
        """The metrics have what is published."""
        async with world.published() as zones:
            zones.tell()
            number = document(zones.publication_at(PATH).answer("GET")).sequence
            assert metric("sequence", zone="default") == number
            assert metric("authorities", zone="default") == 1


def _with_roots(publication, count):
    found = document(publication.answer("GET"))
    return found if len(found) == count else None


def _answers(zone, status):
    return metric("answers_total", zone=zone, status=status) or 0
