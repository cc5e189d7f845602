# SPDX-License-Identifier: Apache-2.0
"""Which configuration is in force: the mounted one, or the ConfigMap that is ahead of it."""

from __future__ import annotations

import pytest

from tests.webhook.api_double import ApiDouble
from tests.webhook.signing.world import PLATFORM
from webhook.api.errors import ForbiddenError
from webhook.api.resources import CONFIG_MAPS
from webhook.config import PlatformConfig
from webhook.followed_file import FollowedFile
from webhook.signing.configuration import Configuration

pytestmark = pytest.mark.anyio

NEWER = PLATFORM.replace("[plain]", "[plain, fresh]")


@pytest.fixture
def mounted(tmp_path):
    path = tmp_path / "platform.yaml"
    path.write_text(PLATFORM)
    return FollowedFile(path, PlatformConfig.parse)


@pytest.fixture
def api():
    return ApiDouble()


@pytest.fixture
def configuration(mounted, api):
    return Configuration(mounted, api, "kubetls-system", reread_seconds=0)


def store(api, text):
    metadata = {"name": "kubetls-config", "namespace": "kubetls-system"}
    api.put(CONFIG_MAPS, {"metadata": metadata, "data": {"platform.yaml": text}})


class TestFresh:
    async def test_map_that_is_ahead(self, configuration, api):
        """What stands in the ConfigMap counts before the kubelet has brought it here."""
        store(api, NEWER)
        assert (await configuration.fresh()).rule_for("fresh")
        assert configuration.current.rule_for("fresh")

    async def test_file_that_changes_afterwards(self, configuration, api, mounted):
        """Once the mounted file changes, it is what counts."""
        store(api, NEWER)
        await configuration.fresh()
        mounted.path.write_text(PLATFORM.replace("[plain]", "[plain, later]"))
        mounted.look()
        assert configuration.current.rule_for("later")
        assert configuration.current.rule_for("fresh") is None

    @pytest.mark.parametrize("text", ["version: 2", "", "][", None], ids=repr)
    async def test_map_that_is_no_use(self, configuration, api, text):
        """A ConfigMap that is not valid, or is not there, changes nothing."""
        if text is not None:
            store(api, text)
        assert (await configuration.fresh()).rule_for("shop")

    async def test_without_the_right(self, configuration, api):
        """Without the right to read it, the mounted file decides."""
        store(api, NEWER)
        api.fail("get", ForbiddenError("no"), times=None)
        assert (await configuration.fresh()).rule_for("fresh") is None

    async def test_not_read_for_each_refusal(self, mounted, api):
        """A burst of refusals reads the ConfigMap once."""
        store(api, PLATFORM)
        configuration = Configuration(mounted, api, "kubetls-system")
        for _ in range(50):
            await configuration.fresh()
        assert len(api.calls_of("get")) == 1
