# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio

import pytest

from tests.webhook.api.rude_server import break_off, event, listing, refusal, stream
from tests.webhook.api_double import ApiDouble
from webhook.api import ApiError, ForbiddenError, GoneError, Informer, Pod
from webhook.api.backoff import Backoff
from webhook.api.resources import PODS, SERVICES

pytestmark = pytest.mark.anyio


def named(name, namespace="shop", **more):
    return {"metadata": {"name": name, "namespace": namespace, **more}, "spec": {}}


def name_and_labels(item):
    """A small parse: None where the object is not of interest."""
    labels = item["metadata"].get("labels") or {}
    return None if "ignored" in labels else (item["metadata"]["name"], tuple(labels.items()))


def at_once():
    return Backoff(initial=0.001, maximum=0.01)


class Told:
    """What a subscriber was told, and a way to wait for more of it."""

    def __init__(self, informer):
        self.changes = []
        self._more = asyncio.Event()
        informer.subscribe(self)

    def __call__(self, old, new):
        self.changes.append((old and old[0], new and new[0]))
        self._more.set()

    async def until(self, count):
        async with asyncio.timeout(5):
            while len(self.changes) < count:
                self._more.clear()
                await self._more.wait()
        return self.changes


async def counted(informer, outcome, at_least=1):
    """Wait until an outcome was counted so often."""
    async with asyncio.timeout(5):
        while informer.counts.get(outcome, 0) < at_least:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.005)


@pytest.fixture
def double():
    return ApiDouble()


@pytest.fixture
async def pods(double, anyio_backend):
    async with Informer(double, PODS, name_and_labels, backoff=at_once()) as informer:
        yield informer


class TestPicture:
    async def test_it_is_complete_when_synced(self, double):
        """All pages are in before anybody is told that it is."""
        for number in range(600):
            double.put(PODS, named(f"p{number}"))
        async with Informer(double, PODS, name_and_labels) as informer:
            await informer.synced()
            assert 600 == len(informer) == len(informer.values())

    async def test_it_follows_changes(self, double, pods):
        """What is created, changed and deleted is told in order."""
        await pods.synced()
        told = Told(pods)
        double.put(PODS, named("a"))
        double.put(PODS, named("a", labels={"x": "1"}))
        double.remove(PODS, "a", "shop")
        assert await told.until(3) == [(None, "a"), ("a", "a"), ("a", None)]
        assert pods.get("shop", "a") is None

    async def test_names_are_of_their_namespace(self, double, pods):
        """The same name elsewhere is another object."""
        told = Told(pods)
        double.put(PODS, named("a", labels={"x": "1"}))
        double.put(PODS, named("a", "other"))
        await told.until(2)
        double.remove(PODS, "a", "other")
        await told.until(3)
        assert pods.get("shop", "a") == ("a", (("x", "1"),))
        assert pods.get("other", "a") is None

    async def test_selections_are_passed_on(self, double):
        """Only what was asked for is listed and watched."""
        double.put(PODS, named("a"))
        double.put(PODS, named("b", labels={"x": "1"}))
        double.put(PODS, named("c", "other", labels={"x": "1"}))
        async with Informer(
            double, PODS, name_and_labels, namespace="shop", label_selector="x=1"
        ) as informer:
            await informer.synced()
            assert list(informer.values()) == [("b", (("x", "1"),))]

    async def test_one_that_leaves_the_selection_is_gone(self, double):
        """A label that is taken away ends what depended on it."""
        double.put(PODS, named("a", labels={"x": "1"}))
        async with Informer(double, PODS, name_and_labels, label_selector="x=1") as informer:
            told = Told(informer)
            await told.until(1)
            double.put(PODS, named("a"))
            assert await told.until(2) == [(None, "a"), ("a", None)]


class TestParse:
    async def test_what_is_not_of_interest_is_absent(self, double, pods):
        """And a change that makes it so is a deletion."""
        await pods.synced()
        told = Told(pods)
        double.put(PODS, named("a"))
        double.put(PODS, named("a", labels={"ignored": ""}))
        assert await told.until(2) == [(None, "a"), ("a", None)]

    async def test_a_change_that_parse_does_not_see_is_not_told(self, double, pods):
        """Heartbeats wake nobody."""
        await pods.synced()
        told = Told(pods)
        double.put(PODS, named("a"))
        double.put(PODS, named("a") | {"status": {"phase": "Running"}})
        double.put(PODS, named("b"))
        assert await told.until(2) == [(None, "a"), (None, "b")]

    async def test_what_cannot_be_parsed_is_absent(self, double):
        """One broken object stops nothing and is counted."""
        double.put(PODS, {"metadata": {"name": "broken", "namespace": "shop"}})
        whole = named("whole", uid="u")
        double.put(PODS, whole)
        async with Informer(double, PODS, Pod.parse) as informer:
            await informer.synced()
            assert [pod.name for pod in informer.values()] == ["whole"]
            assert informer.counts["unparsable"] == 1


class TestSubscribers:
    async def test_a_late_one_is_told_what_is_known(self, double, pods):
        """There is no gap between a first look and the changes."""
        double.put(PODS, named("a"))
        await Told(pods).until(1)
        assert Told(pods).changes == [(None, "a")]

    async def test_one_that_fails_blinds_no_other(self, double, pods):
        """It is logged and counted."""
        pods.subscribe(lambda _old, _new: 1 / 0)
        told = Told(pods)
        double.put(PODS, named("a"))
        await told.until(1)
        assert pods.counts["subscriber"] == 1

    async def test_one_that_left_hears_nothing(self, double, pods):
        """Twice left is left."""
        heard = []
        leave = pods.subscribe(lambda *change: heard.append(change))
        leave()
        leave()
        double.put(PODS, named("a"))
        await Told(pods).until(1)
        assert heard == []


class TestTrouble:
    async def test_an_ended_watch_goes_on_where_it_was(self, double, pods):
        """Nothing is listed again, and nothing is told twice."""
        double.put(PODS, named("a"))
        told = Told(pods)
        await told.until(1)
        await counted(pods, "watch")
        double.disconnect()
        double.put(PODS, named("b"))
        assert await told.until(2) == [(None, "a"), (None, "b")]
        assert len(double.calls_of("list", PODS)) == 1

    async def test_a_version_that_is_too_old_lists_anew_and_tells_the_difference(
        self, double, pods
    ):
        """What ended, changed or came in between is told; what stayed is not."""
        for name in ("ended", "changed", "stayed"):
            double.put(PODS, named(name))
        told = Told(pods)
        await told.until(3)
        await counted(pods, "watch")
        double.fail("watch", ApiError("down", status=500))
        double.disconnect()
        double.remove(PODS, "ended", "shop")
        double.put(PODS, named("changed", labels={"x": "1"}))
        double.put(PODS, named("came"))
        double.forget()
        changes = (await told.until(6))[3:]
        assert {("ended", None), ("changed", "changed"), (None, "came")} == set(changes)
        assert pods.counts["gone"] >= 1

    async def test_an_object_that_was_replaced_is_told_as_a_change(self, double, pods):
        """Deleted and created while nobody looked: the consumer sees another UID."""
        double.put(PODS, named("a", labels={"x": "1"}))
        told = Told(pods)
        await told.until(1)
        await counted(pods, "watch")
        double.fail("watch", ApiError("down", status=500))
        double.disconnect()
        double.remove(PODS, "a", "shop")
        double.put(PODS, named("a", labels={"x": "2"}))
        double.forget()
        assert (await told.until(2))[-1] == ("a", "a")

    @pytest.mark.parametrize(
        "error",
        [
            pytest.param(ForbiddenError("no rights yet"), id="403"),
            pytest.param(ApiError("down", status=500), id="500"),
            pytest.param(ApiError("slow", status=429, retry_after=0.01), id="429"),
            pytest.param(GoneError("compacted"), id="410"),
        ],
    )
    async def test_a_failing_list_is_tried_again(self, double, error):
        """Rights may be given later; the informer waits for them."""
        double.put(PODS, named("a"))
        double.fail("list", error, times=3)
        async with Informer(double, PODS, name_and_labels, backoff=at_once()) as informer:
            async with asyncio.timeout(5):
                await informer.synced()
            assert len(informer) == 1

    async def test_a_version_that_the_server_never_accepts_is_given_up(self, double, pods):
        """The list is told a version that it accepts."""
        await counted(pods, "watch")
        double.fail("watch", ApiError("too large resource version", status=504), times=8)
        double.disconnect()
        await counted(pods, "list", 2)

    async def test_a_long_silence_is_not_trusted(self, double):
        """After a restored backup the API server waits in silence for its old future."""
        now = [0.0]
        async with Informer(
            double, PODS, name_and_labels, clock=lambda: now[0], backoff=at_once()
        ) as pods:
            await counted(pods, "watch")
            now[0] = 599.0
            double.disconnect()
            await counted(pods, "watch", 2)
            assert pods.counts["list"] == 1
            now[0] = 601.0
            double.disconnect()
            await counted(pods, "list", 2)

    async def test_a_watch_with_bookmarks_is_trusted(self, double):
        """Nothing happens, and the API server says so."""
        now = [0.0]
        async with Informer(
            double, PODS, name_and_labels, clock=lambda: now[0], backoff=at_once()
        ) as pods:
            await counted(pods, "watch")
            now[0] = 601.0
            double.bookmark()
            double.disconnect()
            await counted(pods, "watch", 2)
            assert pods.counts["list"] == 1

    async def test_failures_are_logged_once_until_it_works(self, double, caplog):
        """A day without an API server is one line."""
        double.fail("list", ApiError("down"), times=20)
        async with Informer(double, PODS, name_and_labels, backoff=at_once()) as informer:
            await informer.synced()
        assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1

    async def test_a_watch_that_lasted_ends_the_back_off(self, double, caplog):
        """The next outage is answered as quickly as the first, and logged again."""
        now = [0.0]
        async with Informer(
            double, PODS, name_and_labels, clock=lambda: now[0], backoff=at_once()
        ) as pods:
            for outage in (1, 2):
                await counted(pods, "watch", outage)
                now[0] += 10
                double.fail("watch", ApiError("down"), times=3)
                double.disconnect()
                await counted(pods, "failure", 3 * outage)
            await counted(pods, "watch", 3)
        assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 2


class TestStaleness:
    async def test_it_is_stale_before_the_first_list(self, double):
        """Nothing known is not the same as nothing there."""
        assert Informer(double, PODS, name_and_labels).is_stale(1e9)

    async def test_it_is_stale_when_no_watch_was_open_for_long(self, double):
        """An open watch is news enough: silence means no change."""
        now = [0.0]
        async with Informer(
            double, PODS, name_and_labels, clock=lambda: now[0], backoff=at_once()
        ) as informer:
            await counted(informer, "watch")
            now[0] = 1000.0
            assert not informer.is_stale(1)
            double.fail("watch", ApiError("down"), times=None)
            double.disconnect()
            await counted(informer, "failure")
            assert not informer.is_stale(60)
            now[0] = 1060.0
            assert informer.is_stale(60)
            double.heal()
            await counted(informer, "watch", 2)
            assert not informer.is_stale(60)


class TestLife:
    async def test_a_mistake_of_ours_reaches_who_waits(self, double):
        """A broken informer is never waited for in vain."""
        double.fail("list", RuntimeError("a bug"))
        with pytest.raises(RuntimeError, match="a bug"):
            async with Informer(double, PODS, name_and_labels) as informer:
                await informer.synced()

    async def test_leaving_ends_its_task_and_watch(self, double):
        """Nothing runs on."""
        async with Informer(double, SERVICES, name_and_labels) as informer:
            await counted(informer, "watch")
            assert double.watch_count == 1
        assert double.watch_count == 0

    async def test_metrics_hear_each_outcome(self, double):
        """By the resource's plural."""
        seen = []
        async with Informer(
            double, PODS, name_and_labels, observe=lambda *each: seen.append(each)
        ) as informer:
            await counted(informer, "watch")
        assert seen == [("pods", "list"), ("pods", "watch")]


class TestOnTheWire:
    async def test_it_gets_through_a_server_that_does_all_wrong(self, api, server):
        """Broken off, half an event, 410 in the middle, 429: the picture is right in the end."""
        expired = {"kind": "Status", "code": 410, "reason": "Expired"}
        server.answer(
            listing("a"),
            stream(event("ADDED", "b", "5"), b'{"type":"ADD', then="break"),
            refusal(429, "TooManyRequests", retry_after=0),
            stream(event("BOOKMARK", version="9"), then="end"),
            break_off,
            stream(event("ADDED", "c", "10"), {"type": "ERROR", "object": expired}),
            listing("b", "d", version="20"),
            stream(event("DELETED", "b", "21"), then="hang"),
        )
        async with Informer(api, PODS, name_and_labels, backoff=at_once()) as informer:
            told = Told(informer)
            changes = await told.until(7)
            assert [name for name, _ in informer.values()] == ["d"]
        assert changes[:4] == [(None, "a"), (None, "b"), (None, "c"), (None, "d")]
        assert {("a", None), ("c", None)} == set(changes[4:6])
        assert changes[6] == ("b", None)
        watched = [
            each.query["resourceVersion"] for each in server.requests if each.query.get("watch")
        ]
        assert watched == ["4", "5", "5", "9", "9", "20"]
