# SPDX-License-Identifier: Apache-2.0
"""A root rotation with nothing shortened, under a pod that is never restarted: 20 to 30 minutes.

Ten minutes of propagation; the kubelet's own refresh of the certificate, which for a young pod
without a Service comes eight to fifteen minutes after it was issued; and ten minutes for the pod to
have loaded it. The pod is issued its first certificate three minutes after the publication of the
next root, so that the second one is under that.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cluster import ControlPlane, HollowNode
from kubetls_sdk.verification import verify_svid
from kubetls_sdk.volume_source import VolumeSource
from tests.cluster.ca_operator import Operator
from tests.cluster.pods import pod
from tests.cluster.signing_world import SigningWorld, volume
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
PLATFORM = """\
version: 1
zones:
  - {name: default, trustDomain: example.org}
namespaces:
  - {names: ["*"], lifetime: {default: 1h}}
"""
PROPAGATION = timedelta(minutes=10)
BEFORE_POD = timedelta(minutes=3)
LIMIT_SECONDS = 35 * 60


@pytest.fixture
def world(tmp_path):
    folder = tmp_path / "unforced"
    with ControlPlane(folder) as control_plane, HollowNode(control_plane, "node-1") as node:
        world = SigningWorld(control_plane, {node.name: node})
        world.install()
        world.config.write_text(PLATFORM)
        control_plane.api.post("/api/v1/namespaces", {"metadata": {"name": "shop"}})
        account = "/api/v1/namespaces/shop/serviceaccounts/default"
        until(lambda: control_plane.api.exists(account))
        with world.replica():
            yield world


class TestUnforcedRotation:
    def test_a_pod_that_is_never_restarted_always_verifies(self, world):
        """Its leaf is under an authority of its own bundle at each moment; the old root goes."""
        operator = Operator(world.control_plane.kubeconfig, world.config)
        until(operator.pool, timeout=90)
        first = operator.pool().active_entry
        operator.order(lambda orders: orders.rotate())
        until(lambda: is_published_for(operator, BEFORE_POD), timeout=300, interval=2)
        created = world.create_pod("shop", pod("walker", volumes=[volume()]))
        seen = []

        def look():
            snapshot, now = source.snapshot, datetime.now(UTC)
            verify_svid(snapshot.svid.chain, bundles=snapshot.bundles, now=now)
            pool = operator.pool()
            states = [entry.state.value for entry in pool.entries]
            if seen[-1:] != [states]:
                seen.append(states)
            if states == ["retired", "active"]:
                successor = pool.active_entry
                assert successor.activated_at - successor.published_at >= PROPAGATION
            return states == ["active"] and pool.active_entry.id != first.id

        with VolumeSource(world.files(created, timeout=120)) as source:
            until(look, timeout=LIMIT_SECONDS, interval=2)
        assert seen == [["active", "next"], ["retired", "active"], ["active"]]


def is_published_for(operator, span):
    """Whether the next root was published so long ago."""
    entry = operator.pool().next_entry
    if entry is None or entry.published_at is None:
        return False
    return datetime.now(UTC) - entry.published_at >= span
