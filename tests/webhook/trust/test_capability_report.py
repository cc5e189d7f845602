# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tests.webhook.api_double import ApiDouble
from webhook.api.resources import (
    CLUSTER_TRUST_BUNDLES_V1BETA1,
    CONFIG_MAPS,
    POD_CERTIFICATE_REQUESTS,
    POD_CERTIFICATE_REQUESTS_V1BETA1,
)
from webhook.capabilities import Capabilities
from webhook.trust.capability_report import discover, report

pytestmark = pytest.mark.anyio


class TestDiscover:
    @pytest.mark.parametrize(
        ("served", "expected"),
        [
            pytest.param(None, Capabilities("v1", "v1"), id="new"),
            pytest.param(set(), Capabilities(None, None), id="old"),
            pytest.param(
                {POD_CERTIFICATE_REQUESTS_V1BETA1, CLUSTER_TRUST_BUNDLES_V1BETA1},
                Capabilities("v1beta1", "v1beta1"),
                id="beta",
            ),
            pytest.param({POD_CERTIFICATE_REQUESTS}, Capabilities("v1", None), id="half"),
        ],
    )
    async def test_the_newest_version_that_is_served(self, served, expected):
        """Of each kind."""
        assert await discover(ApiDouble(served=served), []) == expected

    async def test_old_nodes_are_named(self):
        """Sorted, so that the same nodes are the same text."""
        found = await discover(ApiDouble(), ["b", "a"])
        assert found.old_nodes == ("a", "b")


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
