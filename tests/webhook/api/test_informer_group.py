# SPDX-License-Identifier: Apache-2.0
"""Informers by key come and go; what is followed goes on undisturbed."""

import pytest

from tests.webhook.api_double import ApiDouble
from webhook.api import Informer
from webhook.api.informer_group import InformerGroup
from webhook.api.resources import CONFIG_MAPS


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def api():
    double = ApiDouble()
    for name in ("a", "b"):
        double.put(CONFIG_MAPS, {"metadata": {"namespace": "n", "name": name}})
    return double


def group(api):
    def make(name):
        return Informer(
            api,
            CONFIG_MAPS,
            lambda body: body["metadata"]["name"],
            field_selector=f"metadata.name={name}",
        )

    return InformerGroup(make)


@pytest.mark.anyio
class TestFollow:
    async def test_each_key_has_its_informer(self, api):
        """An informer sees what its own key selects."""
        async with group(api) as followed:
            assert await followed.follow(["b", "a"]) == frozenset()
            await followed.synced()
            assert followed.is_synced
            assert list(followed.informer("a").values()) == ["a"]
            assert list(followed.informer("b").values()) == ["b"]
            assert followed.informer("c") is None

    async def test_what_is_followed_goes_on(self, api):
        """The same informer as before, while others come and go; what goes is told."""
        async with group(api) as followed:
            await followed.follow(["a"])
            kept = followed.informer("a")
            await followed.follow(["a", "b"])
            assert await followed.follow(["a"]) == {"b"}
            assert followed.informers() == (kept,)

    async def test_the_end_closes_all(self, api):
        """No watch stays when the block is left."""
        async with group(api) as followed:
            await followed.follow(["a", "b"])
            await followed.synced()
        assert followed.informers() == ()
        assert api.watch_count == 0


@pytest.mark.anyio
class TestState:
    async def test_of_none(self, api):
        """A group of none is complete, and lacks nothing."""
        async with group(api) as followed:
            await followed.synced()
            assert followed.is_synced
            assert not followed.is_stale(0)
            assert not followed.has_failed

    async def test_one_that_was_not_listed(self, api):
        """The group is as its worst informer."""
        async with group(api) as followed:
            await followed.follow(["a"])
            assert not followed.is_synced
            assert followed.is_stale(0)
