# SPDX-License-Identifier: Apache-2.0
"""The tests that every CSI driver is held to, against the real driver, signer and API server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import binaries
from tests.cluster.csi_world import NODES, CsiWorld, csi_world
from tests.csi.report import Outcome, differences, read_outcomes, read_skips
from tests.csi.stand_in import stand_in
from tests.waiting import until
from webhook.names import CSI_DRIVER

pytestmark = pytest.mark.timeout(180)

NODE = NODES[0]
SKIPS = read_skips(Path(__file__).with_name("skipped.toml"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CsiWorld]:
    """The cluster, with one node."""
    with csi_world(tmp_path_factory.mktemp("csi"), nodes=(NODE,)) as running:
        yield running


@pytest.fixture(scope="module")
def created(world: CsiWorld) -> dict[str, Any]:
    """A pod on the node, whose own volume is of no interest here."""
    return world.create(world.namespace("sanity"))


@pytest.fixture(scope="module")
def outcomes(world: CsiWorld, created: dict[str, Any]) -> list[Outcome]:
    """All tests of csi-sanity, of a volume `sanity` of the pod."""
    kubelet, folder = world.nodes[NODE].root, world.control_plane.folder
    place = kubelet / "pods" / created["metadata"]["uid"] / "volumes" / "kubernetes.io~csi"
    (place / "sanity").mkdir(parents=True)
    socket, report = kubelet / "sanity.sock", folder / "sanity.json"
    command = [
        *world.nodes[NODE].entering,
        str(binaries.find("csi-sanity")),
        f"--csi.endpoint=unix://{socket}",
        f"--csi.mountdir={place / 'sanity' / 'mount'}",
        f"--csi.stagingdir={folder / 'staging'}",
        f"--ginkgo.json-report={report}",
        "--ginkgo.no-color",
        f"--ginkgo.skip={'|'.join(each.tests for each in SKIPS if each.is_ours)}",
    ]
    driver = kubelet / "plugins" / CSI_DRIVER / "csi.sock"
    with stand_in(driver, socket, lambda: world.attributes(created, world.token_of(created))):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    (folder / "sanity.log").write_text(done.stdout + done.stderr)
    return read_outcomes(report)


class TestSanity:
    def test_nothing_fails(self, outcomes: list[Outcome]) -> None:
        """Whatever of csi-sanity is run passes, volumes published and unpublished among it."""
        assert [each for each in outcomes if each.has_run and each.state != "passed"] == []
        passed = [each.name for each in outcomes if each.has_run]
        assert {"Node Service should work", "Node Service should be idempotent"} <= set(passed)

    def test_what_is_skipped_is_named(self, outcomes: list[Outcome]) -> None:
        """The file of skipped tests says which, and why; none is missing, none is outdated."""
        assert differences(outcomes, SKIPS) == []
        assert all(skip.reason for skip in SKIPS)

    def test_nothing_stays(self, world: CsiWorld, outcomes: list[Outcome]) -> None:
        """Of csi-sanity's volumes none is left in the driver."""
        assert outcomes
        until(lambda: "kubetls_node_volumes 1.0" in world.get("node", "/metrics", NODE))
