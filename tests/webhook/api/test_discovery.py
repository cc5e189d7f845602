# SPDX-License-Identifier: Apache-2.0
"""Which version of a kind is served: asked once, waited for, followed."""

from __future__ import annotations

import asyncio

import pytest

from tests.waiting import eventually
from tests.webhook.api_double import ApiDouble
from webhook.api.discovery import await_served, end_when_served_changes, first_served
from webhook.api.errors import UnreachableError
from webhook.api.resources import CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLES_V1BETA1, PODS
from webhook.exceptions import WebhookError

pytestmark = pytest.mark.anyio

VERSIONS = (CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLES_V1BETA1)


class TestFirstServed:
    @pytest.mark.parametrize(
        ("served", "expected"),
        [
            pytest.param(set(VERSIONS), CLUSTER_TRUST_BUNDLES, id="both"),
            pytest.param({VERSIONS[1], PODS}, CLUSTER_TRUST_BUNDLES_V1BETA1, id="the older one"),
            pytest.param({PODS}, None, id="none"),
        ],
    )
    async def test_order(self, served, expected):
        """The first of those that are asked for is taken."""
        assert await first_served(ApiDouble(served=served), *VERSIONS) == expected

    async def test_failure(self):
        """An API server that does not answer is no API server without the kind."""
        api = ApiDouble()
        api.fail("serves", UnreachableError("away"))
        with pytest.raises(UnreachableError):
            await first_served(api, *VERSIONS)


class TestAwaitServed:
    async def test_patience(self, monkeypatch):
        """It asks again until there is an answer."""
        monkeypatch.setattr("webhook.api.discovery._RETRY_SECONDS", 0.01)
        api = ApiDouble(served={PODS})
        api.fail("serves", UnreachableError("away"), times=3)
        assert await asyncio.wait_for(await_served(api, PODS), 5) == PODS
        assert len(api.calls_of("serves")) == 4


class TestEndWhenServedChanges:
    @pytest.mark.parametrize("after", [{VERSIONS[0]}, set()], ids=["upgraded", "gone"])
    async def test_change(self, after):
        """It goes on while the same is served, and fails when that changes."""
        api = ApiDouble(served={VERSIONS[1]})
        following = asyncio.create_task(
            end_when_served_changes(api, VERSIONS[1], *VERSIONS, seconds=0.01)
        )
        await eventually(lambda: len(api.calls_of("serves")) >= 6)
        assert not following.done()
        api.served = after
        with pytest.raises(WebhookError, match="another version of ClusterTrustBundle"):
            await asyncio.wait_for(following, 5)
