# SPDX-License-Identifier: Apache-2.0
"""Replicas in fake time."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from tests.webhook.api.fake_time import clock, run
from tests.webhook.api.replicas import Cable
from tests.webhook.api_double import ApiDouble
from webhook.api import ApiError, ForbiddenError, Membership
from webhook.api.lease import micro_time
from webhook.api.membership import GROUP_LABEL, rendezvous
from webhook.api.resources import LEASES

KEYS = [f"request-{number}" for number in range(3000)]


def replica(api, name, group="signer"):
    return Membership(api, "s", group, name, clock=clock)


def left_behind(double, name, *, age):
    """Put the Lease of a replica that crashed."""
    renewed = micro_time(datetime.now(UTC) - age)
    metadata = {"name": f"signer-{name}", "namespace": "s", "labels": {GROUP_LABEL: "signer"}}
    spec = {"holderIdentity": name, "renewTime": renewed, "leaseDurationSeconds": 10}
    double.put(LEASES, {"metadata": metadata, "spec": spec})


class TestRendezvous:
    def test_each_key_has_one_owner_on_which_all_agree(self):
        """The order in which replicas are known does not matter."""
        assert all(
            rendezvous(key, ("a", "b", "c")) == rendezvous(key, ("c", "a", "b")) for key in KEYS
        )

    def test_shares_are_even(self):
        """A tenth more or less."""
        shares = Counter(rendezvous(key, ("a", "b", "c")) for key in KEYS)
        assert all(900 < share < 1100 for share in shares.values())

    def test_a_lost_replica_moves_its_own_share_only(self):
        """What the others had stays theirs."""
        before = {key: rendezvous(key, ("a", "b", "c")) for key in KEYS}
        after = {key: rendezvous(key, ("a", "b")) for key in KEYS}
        assert all(after[key] == owner for key, owner in before.items() if owner != "c")
        moved = Counter(after[key] for key, owner in before.items() if owner == "c")
        assert all(share > 300 for share in moved.values())

    def test_nobody_owns_nothing(self):
        """Without replicas there is no owner."""
        assert rendezvous("k", ()) is None


class TestJoining:
    def test_all_see_all_within_a_renewal(self):
        """And share the work."""

        async def scenario():
            double = ApiDouble()
            async with replica(double, "a") as first, replica(double, "b") as second:
                await first.joined()
                await asyncio.sleep(3.5)
                assert first.live == second.live == ("a", "b")
                owners = Counter((first.owns(key), second.owns(key)) for key in KEYS)
                assert set(owners) == {(True, False), (False, True)}

        run(scenario)

    def test_before_it_has_joined_it_owns_nothing(self):
        """Others may be at work."""
        member = Membership(ApiDouble(), "s", "signer", "a")
        assert (member.live, member.owner("k"), member.owns("k")) == ((), None, False)

    def test_groups_are_apart(self):
        """Secret issuers are no signers."""

        async def scenario():
            double = ApiDouble()
            async with replica(double, "a") as signer, replica(double, "b", "secrets"):
                await asyncio.sleep(4)
                assert signer.live == ("a",)

        run(scenario)

    def test_a_restarted_container_takes_its_lease_over(self):
        """The pod, and so the name, is the same."""

        async def scenario():
            double = ApiDouble()
            left_behind(double, "a", age=timedelta(seconds=5))
            async with replica(double, "a") as member:
                await member.joined()
                assert member.live == ("a",)

        run(scenario)

    def test_a_name_that_is_no_lease_s_is_hashed(self):
        """Any identity may join."""

        async def scenario():
            double = ApiDouble()
            async with replica(double, "Über/Pod") as member:
                await member.joined()
                assert member.live == ("Über/Pod",)
                name = double.all(LEASES)[0]["metadata"]["name"]
                assert name.isascii()
                assert "/" not in name

        run(scenario)


class TestLoss:
    def test_a_share_moves_within_15_seconds(self):
        """Of a replica that vanishes right after a renewal, and subscribers hear of it."""

        async def scenario():
            double = ApiDouble()
            async with replica(double, "a") as first:
                second = replica(double, "b")
                await second.__aenter__()
                await asyncio.sleep(10)
                heard = []
                first.subscribe(lambda: heard.append((clock(), first.live)))
                for task in second._tasks:
                    task.cancel()
                vanished = clock()
                await asyncio.sleep(16)
                assert [live for _, live in heard] == [("a",)]
                assert heard[0][0] - vanished <= 15

        run(scenario)

    def test_one_that_ends_leaves_at_once(self):
        """It takes its Lease along."""

        async def scenario():
            double = ApiDouble()
            async with replica(double, "a") as first:
                async with replica(double, "b") as second:
                    await asyncio.sleep(5)
                assert not second.owns("k")
                await asyncio.sleep(3.1)
                assert first.live == ("a",)
            assert double.all(LEASES) == []

        run(scenario)

    @pytest.mark.parametrize("how", ["is_cut", "hangs"])
    def test_one_that_cannot_renew_owns_nothing_before_others_take_over(self, how):
        """At no moment after it is given up elsewhere does it own its share."""

        async def scenario():
            double = ApiDouble()
            cable = Cable(double)
            async with replica(double, "a") as first, replica(cable, "b") as second:
                await asyncio.sleep(10)
                key = next(key for key in KEYS if second.owns(key))
                setattr(cable, how, True)
                for _ in range(200):
                    await asyncio.sleep(0.1)
                    assert not (first.owns(key) and second.owns(key))
                assert first.owns(key)
                assert second.live == () or "b" not in second.live
                cable.is_cut = cable.hangs = False

        run(scenario)

    def test_it_owns_again_when_it_can(self):
        """Without a restart."""

        async def scenario():
            double = ApiDouble()
            cable = Cable(double)
            async with replica(cable, "a") as member:
                await asyncio.sleep(5)
                cable.is_cut = True
                await asyncio.sleep(30)
                assert member.live == ()
                cable.is_cut = False
                await asyncio.sleep(4)
                assert member.live == ("a",)

        run(scenario)

    def test_a_deleted_lease_is_made_again(self):
        """By the next renewal."""

        async def scenario():
            double = ApiDouble()
            async with replica(double, "a") as member:
                await asyncio.sleep(1)
                double.remove(LEASES, "signer-a", "s")
                await asyncio.sleep(4)
                assert member.live == ("a",)
                assert len(double.all(LEASES)) == 1

        run(scenario)


class TestLeftBehind:
    def test_one_of_yesterday_owns_nothing(self):
        """A replica that starts after a crash of all need not wait for the dead."""

        async def scenario():
            double = ApiDouble()
            left_behind(double, "dead", age=timedelta(days=1))
            async with replica(double, "a") as member:
                await member.joined()
                assert member.live == ("a",)

        run(scenario)

    def test_a_living_one_with_a_wrong_clock_is_found_alive(self):
        """By its next renewal: the guess by the wall clock is only the first."""

        async def scenario():
            double = ApiDouble()
            async with replica(double, "a") as member:
                for number in range(4):
                    left_behind(double, "skewed", age=timedelta(days=1, seconds=number))
                    await asyncio.sleep(3)
                assert member.live == ("a", "skewed")

        run(scenario)

    def test_it_is_cleared_away(self):
        """After ten minutes, by one of the living."""

        async def scenario():
            double = ApiDouble()
            left_behind(double, "dead", age=timedelta(days=1))
            async with replica(double, "a"), replica(double, "b"):
                await asyncio.sleep(500)
                assert len(double.all(LEASES)) == 3
                await asyncio.sleep(200)
                assert len(double.all(LEASES)) == 2
                assert len(double.calls_of("delete")) == 1

        run(scenario)

    def test_a_missing_right_to_clear_away_stops_nothing(self):
        """The Lease stays, and everything else works."""

        async def scenario():
            double = ApiDouble()
            left_behind(double, "dead", age=timedelta(days=1))
            double.fail("delete", ForbiddenError("no"), times=None)
            async with replica(double, "a") as member:
                await asyncio.sleep(700)
                assert member.live == ("a",)

        run(scenario)


class TestTrouble:
    def test_a_failing_list_does_not_end_our_own_life(self):
        """Renewal counts; the others are taken for dead after a while."""

        async def scenario():
            double = ApiDouble()
            async with replica(double, "a") as first, replica(double, "b") as second:
                await asyncio.sleep(5)
                double.fail("list", ApiError("down"), times=None)
                await asyncio.sleep(30)
                assert (first.live, second.live) == (("a",), ("b",))

        run(scenario)

    def test_a_subscriber_that_fails_stops_nothing(self):
        """It is logged."""

        async def scenario():
            double, heard = ApiDouble(), []
            member = replica(double, "a")
            member.subscribe(lambda: 1 / 0)
            leave = member.subscribe(lambda: heard.append(member.live))
            async with member:
                await asyncio.sleep(4)
                leave()
                leave()
                double.fail("replace", ApiError("down"), times=None)
                await asyncio.sleep(30)
            assert heard == [("a",)]

        run(scenario)
