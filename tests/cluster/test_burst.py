# SPDX-License-Identifier: Apache-2.0
"""All pods of a cluster start at once. The numbers themselves are `benchmarks/burst.py`'s."""

from __future__ import annotations

import asyncio
import statistics
from contextlib import ExitStack

import pytest

from benchmarks.burst import NODES, PODS_AT_ONCE, burst, cpu_seconds
from cluster import ControlPlane, HollowNode
from tests.cluster.signing_world import SigningWorld
from tests.waiting import until


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_all_are_answered(tmp_path_factory):
    """500 requests that come within seconds are answered one and all, at little cost.

    The bounds are wide: other work on the machine is in the delays.
    """
    with ExitStack() as stack:
        control_plane = stack.enter_context(ControlPlane(tmp_path_factory.mktemp("burst")))
        names = [f"node-{number}" for number in range(NODES)]
        nodes = {name: stack.enter_context(HollowNode(control_plane, name)) for name in names}
        world = SigningWorld(control_plane, nodes)
        world.install()
        signer = stack.enter_context(world.replica())
        until(lambda: "answers requests" in signer.log.read_text(), timeout=30)
        before = cpu_seconds(signer.pid)
        delays, _ = asyncio.run(burst(control_plane.kubeconfig))
        spent = cpu_seconds(signer.pid) - before
    assert len(delays) == PODS_AT_ONCE
    assert statistics.median(delays) < 1.0
    assert spent < 4.0
