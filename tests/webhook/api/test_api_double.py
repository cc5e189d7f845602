# SPDX-License-Identifier: Apache-2.0
"""The double does what the API server does, where the tests of controllers depend on it."""

from __future__ import annotations

import inspect
from contextlib import aclosing

import pytest

from tests.webhook.api_double import ApiDouble
from webhook.api import AlreadyExistsError, Api, ConflictError, GoneError, NotFoundError
from webhook.api.resources import PODS

pytestmark = pytest.mark.anyio


@pytest.fixture
def double():
    return ApiDouble()


def pod(name="web", **more):
    return {"metadata": {"name": name, "namespace": "shop", **more}, "spec": {}}


class TestShape:
    @pytest.mark.parametrize(
        "name",
        [
            name
            for name, found in vars(Api).items()
            if not (name.startswith("_") or name == "connect" or isinstance(found, property))
        ],
    )
    def test_each_method_takes_what_the_real_one_takes(self, name):
        """A test that passes with the double cannot fail by an argument."""
        real = inspect.signature(getattr(Api, name)).parameters
        ours = inspect.signature(getattr(ApiDouble, name)).parameters
        if not any(each.kind is each.VAR_KEYWORD for each in ours.values()):
            assert list(real) == list(ours)


class TestWrites:
    async def test_a_name_is_taken_once(self, double):
        """As by the real one."""
        await double.create(PODS, pod())
        with pytest.raises(AlreadyExistsError):
            await double.create(PODS, pod())

    async def test_generated_names_differ(self, double):
        """`generateName` is finished by the server."""
        body = {"metadata": {"generateName": "web-", "namespace": "shop"}}
        names = {(await double.create(PODS, body))["metadata"]["name"] for _ in range(3)}
        assert len(names) == 3

    @pytest.mark.parametrize("field", ["resourceVersion", "uid"])
    async def test_a_replacement_compares(self, double, field):
        """Version and UID, where they are given."""
        stored = double.put(PODS, pod())
        stored["metadata"][field] = "other"
        with pytest.raises(ConflictError):
            await double.replace(PODS, stored)

    async def test_the_status_is_written_apart(self, double):
        """A write to one leaves the other."""
        stored = double.put(PODS, pod() | {"status": {"phase": "Pending"}})
        changed = stored | {"status": {"phase": "Running"}, "spec": {"nodeName": "n"}}
        await double.replace(PODS, changed, subresource="status")
        found = double.find(PODS, "web", "shop")
        assert (found["status"]["phase"], found["spec"]) == ("Running", {})
        found["status"] = {}
        found["spec"] = {"nodeName": "n"}
        await double.replace(PODS, found)
        found = double.find(PODS, "web", "shop")
        assert (found["status"]["phase"], found["spec"]["nodeName"]) == ("Running", "n")

    async def test_what_is_given_out_is_a_copy(self, double):
        """Nobody changes the store by accident."""
        double.put(PODS, pod())
        (await double.get(PODS, "web", namespace="shop"))["spec"]["x"] = 1
        assert double.find(PODS, "web", "shop")["spec"] == {}

    async def test_a_dry_run_stores_nothing(self, double):
        """It only answers."""
        await double.create(PODS, pod(), dry_run=True)
        assert double.all(PODS) == []

    async def test_a_delete_can_mean_one_object_only(self, double):
        """The UID is a precondition."""
        double.put(PODS, pod())
        with pytest.raises(ConflictError):
            await double.delete(PODS, "web", namespace="shop", uid="other")
        await double.delete(PODS, "web", namespace="shop")
        with pytest.raises(NotFoundError):
            await double.get(PODS, "web", namespace="shop")


class TestWatch:
    async def test_it_begins_after_the_version(self, double):
        """Each change is seen once."""
        double.put(PODS, pod("a"))
        listed = await double.list(PODS)
        double.put(PODS, pod("b"))
        watch = double.watch(PODS, resource_version=listed.resource_version)
        async with aclosing(watch) as events:
            assert (await anext(events)).type == "BOOKMARK"
            first = await anext(events)
            assert (first.type, first.object["metadata"]["name"]) == ("ADDED", "b")
            double.remove(PODS, "a", "shop")
            assert (await anext(events)).type == "DELETED"

    async def test_a_forgotten_version_is_gone(self, double):
        """As after a compaction."""
        double.put(PODS, pod("a"))
        double.forget()
        with pytest.raises(GoneError):
            await anext(double.watch(PODS, resource_version="0"))


class TestFail:
    async def test_it_fails_as_often_as_it_was_told(self, double):
        """Then it works again."""
        double.put(PODS, pod())
        double.fail("get", ConflictError("x"), times=2)
        for _ in range(2):
            with pytest.raises(ConflictError):
                await double.get(PODS, "web", namespace="shop")
        await double.get(PODS, "web", namespace="shop")
