# SPDX-License-Identifier: Apache-2.0
"""The unfinished handshakes of a listener, and the sweep of its living connections."""

from __future__ import annotations

import asyncio
import threading

import pytest
from uvicorn.server import ServerState

from kubetls_sdk import PeerVerificationError, TrustBundleSet
from kubetls_sdk.server._gate import peer_address
from kubetls_sdk.server._handshakes import Handshakes
from kubetls_sdk.server.sweeper import Sweeper
from tests.sdk.server.scopes import World


class Gate:
    def __init__(self, address="10.0.0.7:1"):
        self.address = address
        self.is_aborted = False

    def abort(self):
        self.is_aborted = True


class TestHandshakes:
    def test_oldest_is_dropped(self, caplog):
        """Beyond the limit the oldest goes, since whoever stalls is the oldest."""
        handshakes, state = Handshakes(2), ServerState()
        gates = [Gate(f"10.0.0.{number}:1") for number in range(4)]
        for gate in gates:
            handshakes.begin(gate, state)
        assert [gate.is_aborted for gate in gates] == [True, True, False, False]
        assert len(handshakes) == 2
        assert "10.0.0.0:1: the oldest of more than 2 unfinished handshakes" in caplog.text

    def test_ended(self):
        """A handshake that ended makes room, whether it is told once or twice."""
        handshakes, state, gate = Handshakes(1), ServerState(), Gate()
        handshakes.begin(gate, state)
        handshakes.end(gate)
        handshakes.end(gate)
        handshakes.begin(Gate(), state)
        assert not gate.is_aborted

    def test_limit_of_connections(self):
        """However many there are, they count as one of uvicorn's connections."""
        handshakes, state = Handshakes(100), ServerState()
        gates = [Gate() for _ in range(50)]
        for gate in gates:
            handshakes.begin(gate, state)
        assert len(state.connections) == 1
        for gate in gates:
            handshakes.end(gate)
        assert len(state.connections) == 0

    def test_shutdown(self):
        """The shutdown of uvicorn aborts them all."""
        handshakes, state = Handshakes(100), ServerState()
        gates = [Gate() for _ in range(3)]
        for gate in gates:
            handshakes.begin(gate, state)
        for connection in list(state.connections):
            connection.shutdown()
        assert all(gate.is_aborted for gate in gates)
        assert len(handshakes) == len(state.connections) == 0


class Transport:
    def __init__(self, name):
        self.name = name

    def get_extra_info(self, key):
        return self.name if key == "peername" else None


class TestAddress:
    @pytest.mark.parametrize(
        ("expected", "name"),
        [
            ("10.0.0.7:4711", ("10.0.0.7", 4711)),
            ("[fd00::7]:4711", ("fd00::7", 4711, 0, 0)),
            ("unix socket", ""),
            ("unix socket", None),
        ],
    )
    def test_text(self, expected, name):
        """An address is text for the log, for every family."""
        assert peer_address(Transport(name)) == expected


class TestSweeper:
    @pytest.fixture
    def world(self):
        return World()

    def test_new_generation(self, world):
        """A removed root ends its connections at once, from whatever thread it comes."""
        ended = asyncio.run(self._sweep(world, world.distrust))
        assert ended == [False]

    def test_generation_that_changes_nothing(self, world):
        """Another SVID and more roots end nothing."""

        def rotate():
            world.ca.add_root()
            world.source.replace(bundles=TrustBundleSet([world.ca.bundle]))

        assert asyncio.run(self._sweep(world, rotate)) == []

    async def _sweep(self, world, change):
        sweeper, ended = Sweeper(world.source, 600.0), []
        connection = world.connection()
        connection.end = ended.append
        sweeper.add(connection)
        thread = threading.Thread(target=change)
        thread.start()
        await asyncio.to_thread(thread.join)
        await asyncio.sleep(0.01)
        sweeper.close()
        return ended

    def test_clock(self, world):
        """An expired certificate is found without any new generation."""

        async def main():
            sweeper, found = Sweeper(world.source, 0.05), asyncio.Event()
            connection = world.connection()
            connection.expires_at = 0.0
            connection.end = lambda _: found.set()
            sweeper.add(connection)
            await asyncio.wait_for(found.wait(), 5)
            sweeper.close()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("kubetls_sdk.server.connection.recheck", _expired)
            asyncio.run(main())

    def test_closed_loop(self, world):
        """A generation that comes after the event loop is gone does no harm."""

        async def main():
            sweeper = Sweeper(world.source, 600.0)
            connection = world.connection()
            sweeper.add(connection)
            return sweeper, connection

        sweeper, connection = asyncio.run(main())
        world.distrust()
        assert not connection.is_ended
        sweeper.close()
        sweeper.close()

    def test_forgets(self, world):
        """A connection that nobody holds is not held by the sweep."""

        async def main():
            sweeper = Sweeper(world.source, 600.0)
            sweeper.add(world.connection())
            count = len(sweeper)
            sweeper.close()
            return count

        assert asyncio.run(main()) == 0


def _expired(peer, *, bundles, now):
    raise PeerVerificationError("it expired")
