# SPDX-License-Identifier: Apache-2.0
"""Events in fake time."""

from __future__ import annotations

import asyncio

import pytest

from tests.webhook.api.fake_time import clock, run
from tests.webhook.api_double import ApiDouble
from webhook.api import ApiError, EventRecorder, ForbiddenError, NotFoundError, Pod
from webhook.api.events import reference
from webhook.api.resources import CLUSTER_TRUST_BUNDLES, EVENTS, NODES, PODS

WEB = reference(PODS, {"name": "web-0", "namespace": "shop", "uid": "u1"})


def recorder(double, **settings):
    return EventRecorder(double, "kubetls-signer", instance="signer-1", clock=clock, **settings)


async def written(double, *, count=1):
    async with asyncio.timeout(600):
        while len(double.all(EVENTS)) < count:  # noqa: ASYNC110 - in fake time
            await asyncio.sleep(0.01)
    return double.all(EVENTS)


class TestReference:
    def test_metadata_and_parsed_objects_say_the_same(self):
        """Whatever the caller has at hand."""
        metadata = {"name": "web-0", "namespace": "shop", "uid": "u1"}
        assert reference(PODS, Pod.parse({"metadata": metadata, "spec": {}})) == WEB


class TestEvent:
    def test_it_is_about_its_object_in_its_namespace(self):
        """So that `kubectl describe` finds it."""

        async def scenario():
            double = ApiDouble()
            async with recorder(double) as events:
                await events.event(WEB, "Warning", "Denied", "no zone")
                [body] = await written(double)
            assert body["metadata"]["namespace"] == "shop"
            assert body["metadata"]["name"].startswith("web-0.")
            assert body["regarding"] == {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": "web-0",
                "namespace": "shop",
                "uid": "u1",
            }
            assert tuple(
                body[field]
                for field in (
                    "type",
                    "reason",
                    "note",
                    "reportingController",
                    "reportingInstance",
                )
            ) == ("Warning", "Denied", "no zone", "kubetls-signer", "signer-1")

        run(scenario)

    def test_one_about_a_bundle_has_a_name_that_is_allowed(self):
        """Bundles have colons in their names, Events may not."""
        bundle = {"name": "example.org:partner:acme"}

        async def scenario():
            double = ApiDouble()
            async with recorder(double) as events:
                regarding = reference(CLUSTER_TRUST_BUNDLES, bundle)
                await events.event(regarding, "Warning", "TooOld", "x")
                [body] = await written(double)
            assert body["metadata"]["name"].startswith("example.org.partner.acme.")
            assert body["regarding"]["name"] == bundle["name"]

        run(scenario)

    def test_one_about_a_cluster_scoped_object_is_in_default(self):
        """As the API requires."""

        async def scenario():
            double = ApiDouble()
            async with recorder(double) as events:
                await events.event(reference(NODES, {"name": "n"}), "Normal", "Issued", "x")
            assert double.all(EVENTS)[0]["metadata"]["namespace"] == "default"

        run(scenario)

    @pytest.mark.parametrize("note", ["x" * 5000, "é" * 5000, "\U0001d518" * 5000])
    def test_a_long_note_is_cut_between_characters(self, note):
        """The API counts bytes."""

        async def scenario():
            double = ApiDouble()
            async with recorder(double) as events:
                await events.event(WEB, "Normal", "Issued", note)
            told = double.all(EVENTS)[0]["note"]
            assert note.startswith(told)
            assert 1020 <= len(told.encode()) <= 1024

        run(scenario)

    def test_a_long_object_name_still_makes_a_name(self):
        """An Event's name has 253 characters at most."""

        async def scenario():
            double = ApiDouble()
            long = WEB._replace(name="p" * 253)
            async with recorder(double) as events:
                await events.event(long, "Normal", "Issued", "x")
            body = double.all(EVENTS)[0]
            assert len(body["metadata"]["name"]) <= 253
            assert len(body["regarding"]["name"]) == 253

        run(scenario)


class TestSeries:
    def test_the_same_again_is_counted_in_one_event(self):
        """The second at once, then each minute at most."""

        async def scenario():
            double = ApiDouble()
            async with recorder(double) as events:
                for _ in range(100):
                    await events.event(WEB, "Warning", "Denied", "no zone")
                    await asyncio.sleep(1)
                assert len(double.calls_of("patch")) <= 3
            [body] = double.all(EVENTS)
            assert body["series"]["count"] == 100

        run(scenario)

    def test_the_count_is_written_though_nothing_comes_any_more(self):
        """The last ones of a burst are not lost."""

        async def scenario():
            double = ApiDouble()
            async with recorder(double) as events:
                for _ in range(50):
                    await events.event(WEB, "Warning", "Denied", "no zone")
                await asyncio.sleep(90)
                assert double.all(EVENTS)[0]["series"]["count"] == 50

        run(scenario)

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param((WEB, "Warning", "Denied", "another note"), id="note"),
            pytest.param((WEB, "Warning", "Failed", "no zone"), id="reason"),
            pytest.param((WEB._replace(uid="u2"), "Warning", "Denied", "no zone"), id="object"),
        ],
    )
    def test_what_differs_is_another_event(self, other):
        """Nothing is hidden behind a count."""

        async def scenario():
            double = ApiDouble()
            async with recorder(double) as events:
                await events.event(WEB, "Warning", "Denied", "no zone")
                await events.event(*other)
            assert len(double.all(EVENTS)) == 2

        run(scenario)

    def test_after_six_minutes_it_is_a_new_event(self):
        """An old one may have expired, and nobody looks there."""

        async def scenario():
            double = ApiDouble()
            async with recorder(double) as events:
                await events.event(WEB, "Warning", "Denied", "no zone")
                await asyncio.sleep(400)
                await events.event(WEB, "Warning", "Denied", "no zone")
            assert len(double.all(EVENTS)) == 2

        run(scenario)

    def test_one_that_expired_begins_anew(self):
        """The API server drops Events after an hour, or the namespace was emptied."""

        async def scenario():
            double = ApiDouble()
            async with recorder(double) as events:
                for _ in range(3):
                    double.fail("patch", NotFoundError("gone"), times=1)
                    await events.event(WEB, "Warning", "Denied", "no zone")
                    await asyncio.sleep(1)
                assert len(double.all(EVENTS)) == 2

        run(scenario)


class TestTrouble:
    def test_telling_never_waits(self):
        """What does not fit is counted."""

        async def scenario():
            double = ApiDouble()
            double.delay = lambda: asyncio.sleep(3600)
            async with recorder(double, capacity=10) as events:
                started = clock()
                for number in range(100):
                    await events.event(WEB, "Normal", "Issued", f"number {number}")
                assert clock() == started
                assert events.dropped == 90
            assert clock() - started < 10
            assert events.dropped >= 99

        run(scenario)

    def test_transient_trouble_is_outlasted(self):
        """A restart of the API server loses no Event."""

        async def scenario():
            double = ApiDouble()
            double.fail("create", ApiError("down", status=503), times=3)
            async with recorder(double) as events:
                await events.event(WEB, "Normal", "Issued", "x")
                await written(double)
            assert events.dropped == 0

        run(scenario)

    @pytest.mark.parametrize("error", [ForbiddenError("no"), ApiError("down", status=500)])
    def test_what_cannot_be_written_is_counted(self, error):
        """And the next one is tried."""

        async def scenario():
            double = ApiDouble()
            double.fail("create", error, times=None)
            async with recorder(double) as events:
                await events.event(WEB, "Normal", "Issued", "x")
                await asyncio.sleep(60)
                assert events.dropped == 1
                double.heal()
                await events.event(WEB, "Normal", "Issued", "x")
                await written(double)

        run(scenario)

    def test_a_million_kinds_of_events_take_bounded_memory(self, monkeypatch):
        """Only the latest series are remembered."""
        monkeypatch.setattr("webhook.api.events._MAX_SERIES", 20)

        async def scenario():
            double = ApiDouble()
            async with recorder(double) as events:
                for number in range(200):
                    await events.event(WEB, "Normal", "Issued", f"number {number}")
                await written(double, count=200)
                assert len(events._series) == 20

        run(scenario)

    def test_leaving_writes_what_waits(self):
        """The reason why a replica ended is told too."""

        async def scenario():
            double = ApiDouble()
            async with recorder(double) as events:
                for number in range(20):
                    await events.event(WEB, "Normal", "Issued", f"number {number}")
            assert len(double.all(EVENTS)) == 20

        run(scenario)
