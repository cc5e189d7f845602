# SPDX-License-Identifier: Apache-2.0
"""A process that rotates, or opens channels, many times, and says what that cost it.

`python -m tests.integration.grpc_endurance MODE KIND`; prints JSON. A process of its own, so that
nothing but its own work is measured.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
from pathlib import Path

from kubetls_sdk import StaticSource, TrustBundleSet
from kubetls_sdk.client import _grpc_channel
from kubetls_sdk.client.grpc import secure_channel
from tests.integration.grpc_calling import ORDERS, opened
from tests.integration.grpc_world import World, invoke, serve
from tests.waiting import until

ROTATIONS = 1000
CHANNELS = 10_000


def resident():
    """Bytes that are in use; without what the C library has got back and only keeps for later."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def held():
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def measure(step, count):
    """Run a step many times; what is different from after the first fifth."""
    for number in range(count // 5):
        step(number)
    memory, before = resident(), held()
    for number in range(count - count // 5):
        step(number)
    growth = resident() - memory
    allowed = [number + 4 for number in before]
    until(lambda: all(now <= most for now, most in zip(held(), allowed, strict=True)))
    return {"growth": growth, "times": count}


def rotations(world, source, kind):
    mine = [world.ca.issue("/ns/shop/sa/web") for _ in range(8)]
    theirs = [world.ca.issue("/ns/shop/sa/orders") for _ in range(8)]
    with serve(world, "async") as serving, opened(kind, serving.target, source) as channel:
        ours = getattr(channel, "channel", channel)

        def rotate(number):
            source.replace(svid=mine[number % 8])
            world.source.replace(svid=theirs[number % 8])
            invoke(channel, "unary_unary", b"a")
            until(lambda: ours._core.snapshot is source.snapshot, interval=0.001)

        return measure(rotate, ROTATIONS)


def channels(world, source, kind):
    if kind == "different":
        _grpc_channel._idle.take = lambda _: None
        _grpc_channel._idle.keep = lambda core: core.close()

    with serve(world, "async") as serving:

        def call(_):
            with secure_channel(serving.target, source, server_id=ORDERS) as channel:
                invoke(channel, "unary_unary", b"a")

        return measure(call, CHANNELS // 10 if kind == "different" else CHANNELS)


def main(mode, kind):
    world = World()
    source = StaticSource(world.ca.issue("/ns/shop/sa/web"), TrustBundleSet([world.ca.bundle]))
    result = {"rotations": rotations, "channels": channels}[mode](world, source, kind)
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
