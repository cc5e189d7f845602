# SPDX-License-Identifier: Apache-2.0
"""New volumes and renewals do not wait for each other, however many there are of either."""

from __future__ import annotations

import asyncio

import pytest

from tests.waiting import eventually
from tests.webhook.node.world import NodeWorld

pytestmark = pytest.mark.anyio

MANY = 20
APP = {"app": "web"}


@pytest.fixture
def world(tmp_path):
    return NodeWorld(tmp_path)


def hold_up(keeper, prefix):
    """Let the signer keep pods of some name waiting; return who waits, and what ends it."""
    certify, waiting, gate = keeper.certifier.certify, [], asyncio.Event()

    async def certify_later(pod, *arguments):
        if pod.name.startswith(prefix):
            waiting.append(pod.name)
            await gate.wait()
        return await certify(pod, *arguments)

    keeper.certifier.certify = certify_later
    return waiting, gate


async def publish(world, keeper, body):
    await keeper.publish(world.publication(body), world.token(body))


async def test_new_pod_while_many_are_renewed(world):
    """A pod that starts gets its volume, and then those that waited get their new certificates."""
    old = [world.add_pod(f"old-{number}", labels=APP) for number in range(MANY)]
    async with world.signer(), world.keeper() as keeper:
        for body in old:
            await publish(world, keeper, body)
        waiting, gate = hold_up(keeper, "old")
        world.add_service("front")
        await eventually(lambda: waiting)
        new = world.add_pod("new", labels=APP)
        await publish(world, keeper, new)
        assert "front.shop.svc" in world.dns_names(new)
        assert not any(world.dns_names(body) for body in old)
        assert len(waiting) == 8
        gate.set()
        await eventually(lambda: all(world.dns_names(body) for body in old))


async def test_renewal_while_many_start(world):
    """A pod that runs gets its new certificate, and then those that start get their volumes."""
    async with world.signer(), world.keeper() as keeper:
        running = world.add_pod("running", labels=APP)
        await publish(world, keeper, running)
        waiting, gate = hold_up(keeper, "new")
        new = [world.add_pod(f"new-{number}", labels=APP) for number in range(MANY)]
        starting = [asyncio.create_task(publish(world, keeper, body)) for body in new]
        await eventually(lambda: len(waiting) == MANY)
        world.add_service("front")
        await eventually(lambda: "front.shop.svc" in world.dns_names(running))
        assert not any(world.files(body) for body in new)
        gate.set()
        await asyncio.gather(*starting)
        assert all(world.files(body) for body in new)
