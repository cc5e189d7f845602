# SPDX-License-Identifier: Apache-2.0
"""Who is trusted no more leaves running volumes at once, whatever else cannot be had."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from kubetls_sdk.testing import DevelopmentCA
from tests.waiting import eventually
from tests.webhook.node.world import PLATFORM, NodeWorld
from webhook.config import PlatformConfig

pytestmark = pytest.mark.anyio

FILE = "acme.example.trust-bundle.pem"
LATER = timedelta(hours=15).total_seconds()


@pytest.fixture
def world(tmp_path):
    bundle = json.dumps(DevelopmentCA("acme.example").bundle.to_pem().decode())
    partner = f"{{name: acme, trustDomain: acme.example, namespaces: [shop], bundle: {bundle}}}"
    return NodeWorld(tmp_path, f"{PLATFORM}partners:\n  - {partner}\n")


async def published(world, keeper, body):
    await keeper.publish(world.publication(body), world.token(body))
    return world.files(body)


def trusting_pod(world):
    return world.add_pod(annotations={"kubetls.gauntletwizard.net/partners": "acme"})


async def test_partner(world):
    """A partner's file goes with its entry in the configuration; key and certificate stay."""
    body = trusting_pod(world)
    async with world.signer(), world.keeper() as keeper:
        first = await published(world, keeper, body)
        world.config.current = PlatformConfig.parse(PLATFORM)
        keeper.look_at_everything()
        await eventually(lambda: FILE not in world.files(body))
    assert {**world.files(body), FILE: first[FILE]} == first
    assert not (world.publication(body).target / "..data" / FILE).exists()
    assert len(world.requests()) == 1


@pytest.mark.parametrize("why", ["signer is away", "no token", "mode is withdrawn"])
async def test_where_no_certificate_can_be_had(world, why):
    """A certificate that is due, and cannot come, keeps no partner in."""
    body = trusting_pod(world)
    async with world.keeper(answers_within=0.05) as keeper:
        async with world.signer():
            first = await published(world, keeper, body)
        world.clock.ahead = LATER
        if why == "signer is away":
            await keeper.publish(world.publication(body), world.token(body))
            keeper.look()
            await eventually(world.events)
        mode = "[csi, " if why == "mode is withdrawn" else "["
        world.config.current = PlatformConfig.parse(PLATFORM.replace(mode, "["))
        keeper.look_at_everything()
        await eventually(lambda: FILE not in world.files(body))
    assert world.files(body)["credential-bundle.pem"] == first["credential-bundle.pem"]
