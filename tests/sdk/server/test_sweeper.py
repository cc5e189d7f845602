# SPDX-License-Identifier: Apache-2.0
"""The sweep over living connections."""

from __future__ import annotations

import pytest

from kubetls_sdk.server.sweeper import Sweeper
from tests.sdk.server.scopes import World


@pytest.fixture
def world():
    return World()


@pytest.fixture
def sweeper(world):
    sweeper = Sweeper(world.source, 5.0)
    yield sweeper
    sweeper.close()


class TestSweep:
    def test_one_that_cannot_be_ended(self, world, sweeper, caplog):
        """The others end all the same, and the log says which did not."""
        ended = []

        def end(_has_websockets):
            ended.append(True)
            raise RuntimeError("a bug")

        connections = [world.connection() for _ in range(3)]
        for connection in connections:
            connection.end = end
            sweeper._connections.add(connection)
        world.distrust()
        sweeper.sweep()
        assert len(ended) == 3
        assert "ending the connection of 10.0.0.7:4711 failed" in caplog.text
        assert len(sweeper) == 0

    def test_trusted_ones_stay(self, world, sweeper):
        """A sweep without a reason changes nothing."""
        connection = world.connection()
        sweeper._connections.add(connection)
        sweeper.sweep()
        assert not connection.is_ended
        assert len(sweeper) == 1
