# SPDX-License-Identifier: Apache-2.0
"""What is left of a connection that ended in its handshake: nothing, and at once.

Strangers can fail faster than the garbage collector comes; what each holds until then is a quarter
of a megabyte under asyncio.
"""

from __future__ import annotations

import contextlib
import gc

import pytest

from kubetls_sdk.server._gate import Gate
from kubetls_sdk.testing import DevelopmentCA
from tests.integration.hostile import Hostile
from tests.integration.serving import World, serve, stock_context
from tests.waiting import until

COUNT = 20


@pytest.fixture
def world():
    return World()


@contextlib.contextmanager
def without_collector():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def refuse(serving, world):
    stranger = stock_context(DevelopmentCA("example.org").issue(), world.ca.bundle)
    for _ in range(COUNT):
        with contextlib.suppress(OSError):
            serving.connect(stranger).recv(1)


def reset(serving, world):
    Hostile(serving.port, world.ca).reset(COUNT)


def go_away(serving, world):
    attack = Hostile(serving.port, world.ca)
    attack.stall_in_a_record(COUNT, share=0.5)
    until(lambda: len(serving.listener.handshakes) == COUNT)
    attack.close()


def time_out(serving, world):
    attack = Hostile(serving.port, world.ca)
    attack.stay_silent(COUNT)
    until(lambda: len(serving.listener.handshakes) == COUNT)
    until(lambda: not serving.listener.handshakes)
    attack.close()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("fail", [refuse, reset, go_away, time_out])
def test_failed_handshakes_leave_no_garbage(world, loop, fail):
    """Whatever a failed handshake held is free without the garbage collector."""
    with (
        serve(world, handshake_timeout=0.5, options={"loop": loop}) as serving,
        without_collector(),
    ):
        before = _count()
        fail(serving, world)
        until(lambda: _count() <= before)


def _count():
    kinds = [type(each) for each in gc.get_objects()]
    names = [kind.__name__ for kind in kinds if issubclass(kind, Gate)]
    return len(names) + sum(kind.__name__ == "SSLProtocol" for kind in kinds)
