# SPDX-License-Identifier: Apache-2.0
"""`python -m webhook node`: what its options make of a driver."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from webhook.cli.parts import node
from webhook.names import CSI_DRIVER


@pytest.fixture
def started(monkeypatch):
    """Start the command, and return the settings of the driver that would run."""

    def start(*options):
        found = []

        async def run(settings):
            found.append(settings)

        monkeypatch.setattr("webhook.node.run.run", run)
        arguments = ["--config", "platform.yaml", "--node-name", "node-1", *options]
        CliRunner().invoke(node, arguments, catch_exceptions=False)
        (settings,) = found
        return settings

    return start


class TestRegistration:
    def test_by_itself(self, started):
        """The driver goes to the kubelet's own folder of plugins, wherever that is."""
        settings = started("--kubelet-folder", "/var/lib/k0s/kubelet")
        kubelet = Path("/var/lib/k0s/kubelet")
        assert settings.registration == kubelet / "plugins_registry"
        assert settings.endpoint == kubelet / "plugins" / CSI_DRIVER / "csi.sock"

    def test_elsewhere(self, started):
        """A folder that is named is taken as it is."""
        assert started("--registration", "/registry").registration == Path("/registry")

    def test_registrar_beside_it(self, started):
        """Where a registrar does it, the driver does not: two would take the same name."""
        settings = started("--registration", "none", "--endpoint", "/csi/csi.sock")
        assert settings.registration is None
        assert settings.endpoint == Path("/csi/csi.sock")
