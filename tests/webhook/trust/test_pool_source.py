# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tests.webhook.trust.world import until
from webhook.api import watching
from webhook.api.errors import UnreachableError
from webhook.api.resources import SECRETS
from webhook.exceptions import IssuanceError
from webhook.trust.pool_entry import SIGNER_LAG
from webhook.trust.pool_source import STALE_SECONDS, PoolSource

pytestmark = pytest.mark.anyio


@pytest.fixture
async def source(world):
    async with PoolSource(world.api) as source:
        yield source


async def heard(source, act):
    """Do something and wait until the source tells of it."""
    changed = asyncio.Event()
    end = source.subscribe(lambda _zone: changed.set())
    await act
    await asyncio.wait_for(changed.wait(), 5)
    end()


class TestPool:
    async def test_it_is_the_one_in_the_secret(self, world, source):
        """And follows it."""
        await world.settle()
        await source.follow(["default"])
        await source.synced()
        assert source.pool("default") == world.pool()
        await heard(source, world.orders().rotate())
        assert source.pool("default").rotation is not None

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            pytest.param(lambda secret: None, "NoCaPool", id="missing"),
            pytest.param(
                lambda secret: secret.update(type="Opaque"), "CaPoolUnreadable", id="type"
            ),
            pytest.param(
                lambda secret: secret["data"].update({"pool.json": "e30="}),
                "CaPoolUnreadable",
                id="version",
            ),
            pytest.param(lambda secret: secret.pop("data"), "CaPoolUnreadable", id="no data"),
            pytest.param(
                lambda secret: secret["data"].update({"pool.json": "%"}),
                "CaPoolUnreadable",
                id="no base64",
            ),
        ],
    )
    async def test_without_one_requests_stay_pending(self, world, source, spoil, reason):
        """Nothing is signed with what cannot be read; the last good pool is not used on."""
        if reason != "NoCaPool":
            await world.settle()
        await source.follow(["default"])
        await source.synced()
        secret = world.api.find(SECRETS, "kubetls-ca-default", "kubetls-system")
        if secret is not None:
            spoil(secret)

            async def put():
                world.api.put(SECRETS, secret)

            await heard(source, put())
        with pytest.raises(IssuanceError) as caught:
            source.pool("default")
        assert caught.value.reason == reason
        assert caught.value.is_retryable

    async def test_a_zone_that_is_not_followed_has_none(self, source):
        """It has been out of sight for ever."""
        with pytest.raises(IssuanceError, match="has not been seen for too long"):
            source.pool("default")

    async def test_one_that_is_out_of_sight_signs_nothing(self, world, source, monkeypatch):
        """The API server has gone: another replica may have retired this authority since."""
        await world.settle()
        await source.follow(["default"])
        await source.synced()
        monkeypatch.setattr("webhook.trust.pool_source.STALE_SECONDS", 0.0)
        world.api.fail("watch", UnreachableError("gone"), times=None)
        world.api.disconnect()
        await until(lambda: not world.api.watch_count)
        with pytest.raises(IssuanceError) as caught:
            source.pool("default")
        assert caught.value.reason == "CaPoolOutOfSight"

    def test_a_retired_authority_s_last_leaf_is_reckoned_from_there(self):
        """A silent watch is given up, and then some time passes until it counts as out of sight."""
        silence = watching._LONGEST + watching._GRACE_SECONDS
        assert timedelta(seconds=silence + STALE_SECONDS) < SIGNER_LAG


class TestFollow:
    async def test_zones_come_and_go(self, world, source):
        """With the configuration; one watch each, on exactly the one Secret."""
        await source.follow(["default", "other"])
        await source.synced()
        await until(lambda: world.api.watch_count == 2)
        await source.follow(["other"])
        assert world.api.watch_count == 1
        assert source.is_synced
