# SPDX-License-Identifier: Apache-2.0
"""Memory, descriptors and threads stay as they are, over many rotations and channels."""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path

import pytest

from kubetls_sdk import StaticSource, TrustBundleSet
from kubetls_sdk.client import _grpc_channel
from kubetls_sdk.client.grpc import secure_channel
from tests.integration.grpc_calling import ORDERS, opened
from tests.integration.grpc_world import World, invoke, serve
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROTATIONS = 1000
CHANNELS = 10_000
MIB = 1 << 20
_M_ARENA_MAX = -8


@pytest.fixture
def world():
    return World()


@pytest.fixture
def source(world):
    return StaticSource(world.ca.issue("/ns/shop/sa/web"), TrustBundleSet([world.ca.bundle]))


@pytest.fixture(autouse=True)
def one_arena():
    """Leave the C library no choice where to find memory, so that what grows is ours."""
    assert ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1) == 1


def resident():
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def held():
    """Descriptors and threads of this process."""
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def measure(step, count):
    """Run a step many times; the growth of memory after the first fifth, and what is held."""
    for number in range(count // 5):
        step(number)
    memory, before = resident(), held()
    for number in range(count - count // 5):
        step(number)
    return resident() - memory, before


def core_of(channel):
    return getattr(channel, "channel", channel)._core


class TestRotations:
    @pytest.mark.parametrize("kind", ["threaded", "async"])
    def test_rotations(self, world, source, kind):
        """A channel and a server follow 1,000 rotations of both without growing."""
        mine = [world.ca.issue("/ns/shop/sa/web") for _ in range(8)]
        theirs = [world.ca.issue("/ns/shop/sa/orders") for _ in range(8)]
        with serve(world, "async") as serving, opened(kind, serving.target, source) as channel:

            def rotate(number):
                source.replace(svid=mine[number % 8])
                world.source.replace(svid=theirs[number % 8])
                invoke(channel, "unary_unary", b"a")
                until(lambda: core_of(channel).snapshot is source.snapshot, interval=0.001)

            growth, before = measure(rotate, ROTATIONS)
            assert growth < 16 * MIB
            until(lambda: all(now <= then + 4 for now, then in zip(held(), before, strict=True)))


class TestChannels:
    def test_opened_and_closed(self, world, source):
        """10,000 channels that are opened and closed leave nothing behind."""
        with serve(world, "async") as serving:

            def call(_):
                with secure_channel(serving.target, source, server_id=ORDERS) as channel:
                    invoke(channel, "unary_unary", b"a")

            growth, before = measure(call, CHANNELS)
            assert growth < 16 * MIB
            assert all(now <= then + 4 for now, then in zip(held(), before, strict=True))

    def test_never_reused(self, world, source, monkeypatch):
        """So do 1,000 that are all connected anew."""
        monkeypatch.setattr(_grpc_channel._idle, "take", lambda _: None)
        monkeypatch.setattr(_grpc_channel._idle, "keep", lambda core: core.close())
        with serve(world, "async") as serving:

            def call(_):
                with secure_channel(serving.target, source, server_id=ORDERS) as channel:
                    invoke(channel, "unary_unary", b"a")

            growth, before = measure(call, CHANNELS // 10)
            assert growth < 16 * MIB
            assert all(now <= then + 4 for now, then in zip(held(), before, strict=True))
