# SPDX-License-Identifier: Apache-2.0
"""What the author of one pod can have a node make."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.webhook.node.world import NodeWorld
from webhook.exceptions import IssuanceError

pytestmark = pytest.mark.anyio

MOST = 8


@pytest.fixture
def world(tmp_path):
    return NodeWorld(tmp_path)


def volume(world, body, number):
    """One more volume of a pod, as its author wrote it."""
    first = world.publication(body)
    parent = first.target.parent.with_name(f"more-{number}")
    parent.mkdir(exist_ok=True)
    return replace(first, volume_id=f"csi-more-{number}", target=parent / "mount")


async def test_volumes_of_one_pod(world):
    """A pod with hundreds of our volumes gets a few, and no more keys and requests than these."""
    body = world.add_pod()
    token = world.token(body)
    volumes = [volume(world, body, number) for number in range(200)]
    async with world.signer(), world.keeper() as keeper:
        outcomes = await asyncio.gather(
            *(keeper.publish(each, token) for each in volumes), return_exceptions=True
        )
        refused = [each for each in outcomes if each is not None]
        assert len(refused) == 200 - MOST
        assert {(type(each), each.reason, each.is_retryable) for each in refused} == {
            (IssuanceError, "TooManyVolumes", False)
        }
        assert len(world.requests()) == len(list(keeper.store)) == MOST
        with pytest.raises(IssuanceError, match="at most 8"):
            await keeper.publish(volumes[-1], token)
        await keeper.unpublish(volumes[0].volume_id, volumes[0].target)
        await keeper.publish(volumes[-1], token)
        assert keeper._coming == {}


async def test_another_pod(world):
    """The volumes of one pod do not count for another."""
    body, other = world.add_pod(), world.add_pod("other")
    async with world.signer(), world.keeper() as keeper:
        for number in range(MOST):
            await keeper.publish(volume(world, body, number), world.token(body))
        await keeper.publish(world.publication(other), world.token(other))
    assert world.files(other)
