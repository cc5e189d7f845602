# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.node.node_program FOLDER`: a cluster with a real node and a pod, until ended."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from cluster import ControlPlane
from cluster.node import RealNode
from cluster.node.configuration import PAUSE_IMAGE
from tests.cluster.pods import pod
from tests.waiting import until

_POD = "/api/v1/namespaces/default/pods"


def main(folder: Path) -> None:
    """Say that the pod runs, and wait."""
    with ControlPlane(folder) as control_plane, RealNode(control_plane, "real-1") as node:
        node.import_image(node.folder / "pause.tar")
        body = pod("idle", nodeName=node.name)
        body["spec"]["containers"][0] |= {"image": PAUSE_IMAGE, "imagePullPolicy": "Never"}
        until(lambda: control_plane.api.exists(f"{_POD[:-5]}/serviceaccounts/default"), timeout=30)
        control_plane.api.post(_POD, body)
        until(
            lambda: control_plane.api.get(f"{_POD}/idle")["status"]["phase"] == "Running",
            timeout=40,
        )
        sys.stdout.write("running\n")
        sys.stdout.flush()
        signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
