# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tests.webhook.api_double import ApiDouble
from webhook.api.errors import ForbiddenError
from webhook.api.resources import (
    CLUSTER_TRUST_BUNDLES_V1BETA1,
    CONFIG_MAPS,
    CSI_DRIVERS,
    POD_CERTIFICATE_REQUESTS,
    POD_CERTIFICATE_REQUESTS_V1BETA1,
)
from webhook.capabilities import Capabilities
from webhook.trust.capability_report import discover, report, reported

pytestmark = pytest.mark.anyio


class TestDiscover:
    @pytest.mark.parametrize(
        ("served", "expected"),
        [
            pytest.param(None, ("v1", "v1"), id="new"),
            pytest.param(set(), (None, None), id="old"),
            pytest.param(
                {POD_CERTIFICATE_REQUESTS_V1BETA1, CLUSTER_TRUST_BUNDLES_V1BETA1},
                ("v1beta1", "v1beta1"),
                id="beta",
            ),
            pytest.param({POD_CERTIFICATE_REQUESTS}, ("v1", None), id="half"),
        ],
    )
    async def test_the_newest_version_that_is_served(self, served, expected):
        """Of each kind."""
        found = await discover(ApiDouble(served=served), [])
        assert found == Capabilities(*expected, csi_driver=False)

    async def test_old_nodes_are_named(self):
        """Sorted, so that the same nodes are the same text."""
        found = await discover(ApiDouble(), ["b", "a"])
        assert found.old_nodes == ("a", "b")

    async def test_the_csi_driver(self):
        """It is there when it is registered with the cluster; nodes lack only what there is."""
        api = ApiDouble()
        missing = await discover(api, [], nodes_without_driver=["n1"])
        api.put(CSI_DRIVERS, {"metadata": {"name": "csi.kubetls.gauntletwizard.net"}})
        found = await discover(api, [], nodes_without_driver=["n2", "n1"])
        assert (missing.csi_driver, missing.nodes_without_driver) == (False, ())
        assert (found.csi_driver, found.nodes_without_driver) == (True, ("n1", "n2"))

    async def test_without_the_right_to_look(self):
        """The rights may be older than the program: then there is no driver."""
        api = ApiDouble()
        api.fail("get", ForbiddenError("no"), resource=CSI_DRIVERS)
        assert not (await discover(api, [])).csi_driver


class TestReported:
    async def test_what_was_written(self):
        """By whoever led before."""
        api, written = ApiDouble(), Capabilities(None, None, ("a",), True, ("b",))
        await report(api, written, namespace="kubetls-system")
        assert await reported(api, namespace="kubetls-system") == written

    @pytest.mark.parametrize("text", [None, "{"], ids=["nothing", "broken"])
    async def test_nothing(self, text):
        """The first leader of a cluster finds nothing, and none stumbles over it."""
        api = ApiDouble()
        if text is not None:
            body = {"metadata": {"name": "kubetls-capabilities", "namespace": "kubetls-system"}}
            api.put(CONFIG_MAPS, {**body, "data": {"capabilities.json": text}})
        assert (await reported(api, namespace="kubetls-system")).nodes_without_driver == ()


class TestReport:
    async def test_it_is_written_once(self):
        """And again only when it changed."""
        api = ApiDouble()
        for capabilities in (Capabilities(), Capabilities(), Capabilities(None)):
            await report(api, capabilities, namespace="kubetls-system")
        body = api.find(CONFIG_MAPS, "kubetls-capabilities", "kubetls-system")
        assert Capabilities.parse(body["data"]["capabilities.json"]) == Capabilities(None)
        assert len(api.calls_of("create")) == 1
        assert len(api.calls_of("replace")) == 1
