# SPDX-License-Identifier: Apache-2.0
"""A rotation survives its leader: killed at every call, or two at once."""

from __future__ import annotations

import asyncio

import pytest

from tests.webhook.trust.world import BUNDLE, LIFETIME, PROPAGATION, Killed, MortalApi, World
from webhook.api.errors import ConflictError
from webhook.trust.publication import of_zone

pytestmark = pytest.mark.anyio


class Witness:
    """Checks after every call of the leader that no pod can have lost its trust.

    What signs was in the bundle for the propagation time, and what signed stays in the bundle
    until its last leaf has expired.
    """

    def __init__(self, world):
        self.world = world
        self.since = {}
        self.signed_last = {}
        self.changes = 0

    def __call__(self):
        world, now = self.world, self.world.clock.now
        published = world.published()
        self.since = {der: self.since.get(der, now) for der in published}
        pool = world.pool()
        if pool is None:
            return
        active = pool.active_entry
        if active is not None and self.signed_last and active.anchor_der not in self.signed_last:
            assert now - self.since[active.anchor_der] >= PROPAGATION
        if active is not None:
            self.signed_last[active.anchor_der] = now
        for der, last in self.signed_last.items():
            if now < last + LIFETIME and self.changes:
                assert der in published
        self.changes += bool(published)


async def rotated(dies_at, *, after_effect):
    """A whole rotation whose leader dies once; tells how often the API was called."""
    world = World()
    await world.settle()
    first = world.pool().active_entry
    await world.orders().rotate()
    witness = Witness(world)
    witness()
    mortal = MortalApi(world.api, dies_at, after_effect=after_effect, seen=witness)
    try:
        await world.settle(mortal)
    except Killed:
        await world.settle(MortalApi(world.api, seen=witness))
    return world, first, mortal.count


CALLS_OF_A_ROTATION = asyncio.run(rotated(None, after_effect=False))[2]


class TestKilledLeader:
    @pytest.mark.parametrize("after_effect", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize("dies_at", range(CALLS_OF_A_ROTATION))
    async def test_the_next_one_completes_the_rotation(self, dies_at, after_effect):
        """Wherever the leader dies, its successor ends with one new root, in pool and bundle."""
        world, first, _ = await rotated(dies_at, after_effect=after_effect)
        (only,) = world.pool().entries
        assert only.id != first.id
        assert world.published() == {only.anchor_der}

    async def test_the_walk_has_all_its_steps(self):
        """The calls that are interrupted above are those of a whole rotation."""
        world, _, count = await rotated(None, after_effect=False)
        writes = [call for call in world.api.calls if call[0] in ("create", "replace")]
        assert len(writes) >= 12
        assert count == CALLS_OF_A_ROTATION


class TestTwoLeaders:
    async def test_both_at_once_are_harmless(self):
        """Two that act at the same time make one successor, and each step happens once."""
        world = World()
        await asyncio.gather(world.settle(), world.settle())
        await world.orders().rotate()
        witness = Witness(world)
        witness()
        mortal = MortalApi(world.api, seen=witness)
        for _ in range(10):
            await asyncio.gather(world.keep(mortal), world.keep(mortal))
            assert world.states() in (["active", "next"], ["retired", "active"], ["active"])
            if world.states() == ["active"]:
                break
            world.clock.pass_(PROPAGATION + LIFETIME)
        assert world.pool().rotation is None

    async def test_one_of_yesterday_cannot_put_the_old_bundle_back(self):
        """A leader that slept between its reading and its writing loses."""
        world = World()
        await world.settle()
        world.vandalise("")
        keeper = world.keeper()
        found = await keeper._publisher.read(BUNDLE, None)
        stored = await keeper._store.read("default")
        await world.orders().rotate()
        await world.keep()
        with pytest.raises(ConflictError):
            await keeper._publisher.publish(of_zone(world.zone, stored.pool.bundle), found)
        assert len(world.published()) == 2
