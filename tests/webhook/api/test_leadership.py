# SPDX-License-Identifier: Apache-2.0
"""Elections in fake time: each scenario takes minutes there and milliseconds here."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest

from kubetls_sdk.exceptions import ConfigurationError
from tests.webhook.api.fake_time import clock, run
from tests.webhook.api.replicas import Cable, Journal, stop
from tests.webhook.api_double import ApiDouble
from webhook.api import Leadership
from webhook.api.lease import micro_time
from webhook.api.resources import LEASES


def candidate(api, name, **settings):
    return Leadership(api, "s", "l", name, clock=clock, **settings)


class TestElection:
    def test_one_of_many_leads(self):
        """However many stand at once."""

        async def scenario():
            double = ApiDouble()
            candidates = [candidate(double, f"c{number}") for number in range(5)]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_stand(each, 60)) for each in candidates]
                for _ in range(50):
                    await asyncio.sleep(1)
                    assert sum(each.is_leader for each in candidates) <= 1
                assert sum(each.is_leader for each in candidates) == 1
                await stop(*tasks)

        run(scenario)

    def test_everybody_knows_who_leads(self):
        """From the Lease, as last seen."""

        async def scenario():
            double = ApiDouble()
            async with candidate(double, "a") as first, candidate(double, "b") as second:
                await asyncio.sleep(5)
                assert first.leader == second.leader != ""

        run(scenario)

    def test_one_that_ends_hands_over_at_once(self):
        """It gives the Lease back, so nobody waits for it to expire."""

        async def scenario():
            double, journal = ApiDouble(), Journal()
            first = asyncio.create_task(candidate(double, "a").run(journal.work("a")))
            await asyncio.sleep(1)
            second = asyncio.create_task(candidate(double, "b").run(journal.work("b")))
            await asyncio.sleep(10)
            await stop(first)
            await asyncio.sleep(3)
            assert journal.time_of("b", "began") - journal.time_of("a", "ended") < 3
            await stop(second)
            assert double.find(LEASES, "l", "s")["spec"]["holderIdentity"] == ""

        run(scenario)

    def test_it_is_not_given_back_before_the_work_has_ended(self):
        """However long its end takes: it is renewed meanwhile."""

        async def scenario():
            double, journal = ApiDouble(), Journal()
            work = journal.work("a", slow_end=60.0)
            first = asyncio.create_task(candidate(double, "a").run(work))
            await asyncio.sleep(1)
            second = asyncio.create_task(candidate(double, "b").run(journal.work("b")))
            await asyncio.sleep(1)
            await stop(first)
            await asyncio.sleep(5)
            assert journal.time_of("b", "began") >= journal.time_of("a", "ended")
            await stop(second)

        run(scenario)

    def test_one_that_vanishes_is_replaced_within_twenty_seconds(self):
        """15 seconds after its last change was seen, and not sooner."""

        async def scenario():
            double, journal = ApiDouble(), Journal()
            dead = candidate(double, "dead")
            await dead._attempt()
            vanished = clock()
            second = asyncio.create_task(candidate(double, "b").run(journal.work("b")))
            await asyncio.sleep(30)
            assert 15 <= journal.time_of("b", "began") - vanished <= 20
            await stop(second)

        run(scenario)


async def _stand(leadership, seconds):
    async with leadership:
        await asyncio.sleep(seconds)


class TestLoss:
    @pytest.mark.parametrize("how", ["is_cut", "hangs"])
    def test_work_has_ended_before_another_begins(self, how):
        """A leader that cannot renew stops 5 seconds before its Lease can be taken."""

        async def scenario():
            double, journal = ApiDouble(), Journal()
            cable = Cable(double)
            leader = candidate(cable, "a")
            first = asyncio.create_task(leader.run(journal.work("a", slow_end=2.0)))
            await asyncio.sleep(1)
            second = asyncio.create_task(candidate(double, "b").run(journal.work("b")))
            await asyncio.sleep(20)
            assert leader.is_leader
            setattr(cable, how, True)
            cut = clock()
            await asyncio.sleep(30)
            assert journal.time_of("a", "ended") - cut <= 12.1
            assert journal.time_of("b", "began") - journal.time_of("a", "ended") >= 2
            assert not leader.is_leader
            await stop(first, second)

        run(scenario)

    def test_it_leads_again_when_it_can(self):
        """The callback is run anew."""

        async def scenario():
            double, journal = ApiDouble(), Journal()
            cable = Cable(double)
            first = asyncio.create_task(candidate(cable, "a").run(journal.work("a")))
            await asyncio.sleep(5)
            cable.is_cut = True
            await asyncio.sleep(60)
            cable.is_cut = False
            await asyncio.sleep(30)
            assert [what for _, what, _ in journal.entries] == ["began", "ended", "began"]
            await stop(first)

        run(scenario)

    def test_a_short_failure_loses_nothing(self):
        """Renewal has ten seconds."""

        async def scenario():
            double, journal = ApiDouble(), Journal()
            cable = Cable(double)
            first = asyncio.create_task(candidate(cable, "a").run(journal.work("a")))
            await asyncio.sleep(5)
            cable.is_cut = True
            await asyncio.sleep(7)
            cable.is_cut = False
            await asyncio.sleep(30)
            assert [what for _, what, _ in journal.entries] == ["began"]
            await stop(first)

        run(scenario)

    def test_a_lease_that_another_took_ends_the_lead_at_once(self):
        """An administrator may give it to another by hand."""

        async def scenario():
            double, journal = ApiDouble(), Journal()
            first = asyncio.create_task(candidate(double, "a").run(journal.work("a")))
            await asyncio.sleep(5)
            lease = double.find(LEASES, "l", "s")
            double.put(LEASES, lease | {"spec": lease["spec"] | {"holderIdentity": "other"}})
            taken = clock()
            await asyncio.sleep(5)
            assert journal.time_of("a", "ended") - taken <= 2.5
            await stop(first)

        run(scenario)

    def test_one_that_is_only_touched_stays(self):
        """A label that somebody adds costs a repetition, not the lead."""

        async def scenario():
            double, journal = ApiDouble(), Journal()
            first = asyncio.create_task(candidate(double, "a").run(journal.work("a")))
            for _ in range(10):
                await asyncio.sleep(3.1)
                lease = double.find(LEASES, "l", "s")
                lease["metadata"]["labels"] = {"touched": str(clock())}
                double.put(LEASES, lease)
            assert [what for _, what, _ in journal.entries] == ["began"]
            await stop(first)

        run(scenario)

    def test_a_deleted_lease_is_made_again(self):
        """The leader leads on."""

        async def scenario():
            double, journal = ApiDouble(), Journal()
            first = asyncio.create_task(candidate(double, "a").run(journal.work("a")))
            await asyncio.sleep(5)
            double.remove(LEASES, "l", "s")
            await asyncio.sleep(5)
            assert double.find(LEASES, "l", "s")["spec"]["holderIdentity"] == "a"
            assert [what for _, what, _ in journal.entries] == ["began"]
            await stop(first)

        run(scenario)

    def test_a_process_that_was_stopped_does_not_lead_when_it_wakes(self):
        """`is_leader` asks the clock, before any task has had its turn."""

        async def scenario():
            double = ApiDouble()
            async with candidate(double, "a") as leader:
                await leader.elected()
                asyncio.get_running_loop()._fake.now += 11
                assert not leader.is_leader

        run(scenario)


class TestClockSkew:
    @pytest.mark.parametrize("hours", [-24, 24])
    def test_the_wall_clock_of_another_decides_nothing(self, hours):
        """A Lease that changes is alive, whatever time is in it; one that does not is not."""

        async def scenario():
            double, journal = ApiDouble(), Journal()
            skewed = datetime.now(UTC) + timedelta(hours=hours)
            spec = {"holderIdentity": "skewed", "leaseDurationSeconds": 15}
            second = asyncio.create_task(candidate(double, "b").run(journal.work("b")))
            for number in range(30):
                spec["renewTime"] = micro_time(skewed + timedelta(seconds=2 * number))
                double.put(LEASES, {"metadata": {"name": "l", "namespace": "s"}, "spec": spec})
                await asyncio.sleep(2)
            assert journal.entries == []
            stopped = clock()
            await asyncio.sleep(30)
            assert journal.time_of("b", "began") - stopped <= 19
            await stop(second)

        run(scenario)

    @pytest.mark.parametrize(
        ("expected", "duration"),
        [
            pytest.param(15, 1, id="ours at least"),
            pytest.param(40, 40, id="theirs when longer"),
            pytest.param(120, 10**9, id="not for ever"),
            pytest.param(15, None, id="none given"),
        ],
    )
    def test_the_holder_s_duration_counts(self, expected, duration):
        """A release with other times shares the Lease safely, and cannot keep it for ever."""

        async def scenario():
            double, journal = ApiDouble(), Journal()
            spec = {"holderIdentity": "gone", "leaseDurationSeconds": duration}
            double.put(LEASES, {"metadata": {"name": "l", "namespace": "s"}, "spec": spec})
            started = clock()
            task = asyncio.create_task(candidate(double, "b").run(journal.work("b")))
            await asyncio.sleep(130)
            assert expected <= journal.time_of("b", "began") - started <= expected + 3
            await stop(task)

        run(scenario)


class TestRun:
    def test_it_returns_when_the_work_is_done(self):
        """And the Lease is given back."""

        async def scenario():
            double = ApiDouble()

            async def work():
                await asyncio.sleep(1)

            await candidate(double, "a").run(work)
            assert double.find(LEASES, "l", "s")["spec"]["holderIdentity"] == ""

        run(scenario)

    def test_what_the_work_raises_is_raised(self):
        """A failed leader ends; it does not lead on without working."""

        async def scenario():
            double = ApiDouble()

            async def work():
                raise ValueError("a bug")

            with pytest.raises(ValueError, match="a bug"):
                await candidate(double, "a").run(work)
            assert double.find(LEASES, "l", "s")["spec"]["holderIdentity"] == ""

        run(scenario)

    def test_work_that_bears_its_cancellation_is_run_again(self):
        """Returning because the lead was lost is not being done."""

        async def scenario():
            double = ApiDouble()
            cable, runs = Cable(double), []

            async def work():
                runs.append(clock())
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    return

            task = asyncio.create_task(candidate(cable, "a").run(work))
            await asyncio.sleep(5)
            cable.is_cut = True
            await asyncio.sleep(20)
            cable.is_cut = False
            await asyncio.sleep(30)
            assert len(runs) == 2
            await stop(task)

        run(scenario)

    def test_a_mistake_of_ours_ends_it(self):
        """An election that broke is never waited for."""

        async def scenario():
            double = ApiDouble()
            double.fail("get", RuntimeError("a bug"), times=None)
            with pytest.raises(RuntimeError, match="a bug"):
                await candidate(double, "a").run(asyncio.Event().wait)

        run(scenario)


class TestSettings:
    @pytest.mark.parametrize(
        "settings",
        [
            {"renew_deadline": 15.0},
            {"retry_every": 10.0},
            {"retry_every": 0.0},
            {"lease_seconds": 5.0},
        ],
    )
    def test_times_in_the_wrong_order_are_refused(self, settings):
        """Two leaders at once would follow."""
        with pytest.raises(ConfigurationError):
            candidate(ApiDouble(), "a", **settings)

    def test_nobody_is_no_candidate(self):
        """An empty identity means that nobody holds the Lease."""
        with pytest.raises(ConfigurationError):
            candidate(ApiDouble(), "")


class TestChaos:
    @pytest.mark.parametrize("seed", range(3))
    def test_two_never_work_at_once(self, seed):
        """Three candidates whose cables are cut, hang and heal at random, for half an hour."""

        async def scenario():
            chance = random.Random(seed)  # noqa: S311 - no secret
            double, journal = ApiDouble(), Journal()
            cables = [Cable(double) for _ in range(3)]
            tasks = [
                asyncio.create_task(candidate(cable, str(number)).run(journal.work(str(number))))
                for number, cable in enumerate(cables)
            ]
            for _ in range(120):
                await asyncio.sleep(chance.uniform(0, 30))
                cable = chance.choice(cables)
                cable.is_cut, cable.hangs = chance.random() < 0.4, chance.random() < 0.2
                assert not any(task.done() for task in tasks), [t for t in tasks if t.done()]
            assert len(journal.entries) > 10
            await stop(*tasks)

        run(scenario)
