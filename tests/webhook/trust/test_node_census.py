# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tests.webhook.api_double import ApiDouble
from tests.webhook.trust.world import until
from webhook.api.resources import CSI_NODES, NODES
from webhook.trust.node_census import NodeCensus, has_driver

pytestmark = pytest.mark.anyio

DRIVER = "csi.kubetls.gauntletwizard.net"


class World:
    """Nodes, and a time that tests move."""

    def __init__(self):
        self.api = ApiDouble()
        self.now = 1000.0
        self.changes = 0
        self.census = NodeCensus(self.api, changed=self.change, clock=lambda: self.now)

    def change(self):
        self.changes += 1

    def add(self, name, *, drivers=(), version="v1.37.1", system="linux"):
        about = {"kubeletVersion": version, "operatingSystem": system}
        self.api.put(NODES, {"metadata": {"name": name}, "status": {"nodeInfo": about}})
        self.register(name, *drivers)

    def register(self, name, *drivers):
        spec = {"drivers": [{"name": each, "nodeID": name} for each in drivers]}
        self.api.put(CSI_NODES, {"metadata": {"name": name}, "spec": spec})


@pytest.fixture
def world():
    return World()


class TestOld:
    async def test_named_and_told(self, world):
        """Nodes that are too old are named, sorted, and each change of them is told."""
        world.add("b", version="v1.30.0")
        world.add("a", version="v1.34.9")
        world.add("new")
        async with world.census as census:
            await census.wait(5)
            assert census.old == ("a", "b")
            told = world.changes
            world.api.remove(NODES, "new")
            world.api.remove(NODES, "b")
            await until(lambda: census.old == ("a",))
            assert world.changes == told + 1


class TestWithoutDriver:
    async def test_after_some_minutes(self, world):
        """A node is named when it has lacked the driver for minutes, and no longer than that."""
        world.add("good", drivers=["other.example", DRIVER])
        world.add("bad", drivers=["other.example"])
        async with world.census as census:
            await census.wait(5)
            assert census.without_driver() == ()
            world.now += 299
            assert census.without_driver() == ()
            world.now += 1
            assert census.without_driver() == ("bad",)
            world.register("bad", DRIVER)
            await until(lambda: census.without_driver() == ())

    async def test_a_driver_that_is_replaced(self, world):
        """While the driver restarts it is not registered; the next time of grace is a new one."""
        world.add("n1", drivers=[DRIVER])
        async with world.census as census:
            await census.wait(5)
            for drivers in ([], [DRIVER], []):
                world.register("n1", *drivers)
                await until(lambda lacks=not drivers: lacks == self.lacks(census))
                world.now += 200
                assert census.without_driver() == ()

    def lacks(self, census):
        """Whether a node lacks the driver now, be it long or not."""
        census.without_driver()
        return "n1" in census._lacking_since

    async def test_no_csi_node(self, world):
        """Without a CSINode a node lacks the driver; one that is gone lacks nothing."""
        world.add("n1")
        world.api.remove(CSI_NODES, "n1")
        async with world.census as census:
            await census.wait(5)
            census.without_driver()
            world.now += 300
            assert census.without_driver() == ("n1",)
            world.api.remove(NODES, "n1")
            await until(lambda: census.without_driver() == ())

    async def test_windows(self, world):
        """A Windows node lacks nothing that its pods would get."""
        world.add("w", system="windows", version="v1.20.0")
        async with world.census as census:
            await census.wait(5)
            census.without_driver()
            world.now += 300
            assert census.without_driver() == census.old == ()

    async def test_what_the_last_leader_found(self, world):
        """Counts from the start, also before the nodes were seen; not for nodes that are gone."""
        world.add("n1")
        world.census.remember(["n1", "gone"])
        assert world.census.without_driver() == ("gone", "n1")
        async with world.census as census:
            await census.wait(5)
            assert census.without_driver() == ("n1",)


class TestHasDriver:
    @pytest.mark.parametrize("spec", [None, {}, {"drivers": None}, {"drivers": [{"name": "x"}]}])
    def test_none(self, spec):
        """A CSINode in any form without our driver has none."""
        assert not has_driver({"metadata": {"name": "n1"}, "spec": spec})
