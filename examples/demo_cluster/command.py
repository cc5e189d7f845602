# SPDX-License-Identifier: Apache-2.0
"""`python -m examples.demo_cluster`: the control plane on a real API server, and what pods get.

It writes `build/demo-cluster.json` and exits with 0 only when every outcome is the expected one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import ControlPlane, HollowNode, may_mount
from cluster.binaries import CONTROL_PLANE
from cluster.build import build
from cluster.exceptions import ClusterError
from cluster.installation import Installation
from cluster.overlay import NodeDriver
from examples.demo_cluster.cases import calls, driven, identities, legacy, refusals
from examples.demo_cluster.manifests import LEGACY
from examples.demo_cluster.manifests import PLATFORM_WITH_DRIVER as PLATFORM
from examples.demo_cluster.rotation import rotate
from examples.demo_cluster.shop import Shop
from examples.demonstration.screen import screen
from kubetls_sdk.exceptions import KubeTLSError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from examples.demo_cluster.rotation import Rotation
    from examples.demonstration.case import Case
    from examples.demonstration.screen import Screen

__all__ = ("main",)

_INTERRUPTED = 130
_FEWEST_REQUESTS = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo_cluster", description=__doc__)
    parser.add_argument("--build", type=Path, default=Path("build"), help="for demo-cluster.json")
    options = parser.parse_args(arguments)
    shown, started = screen(), time.monotonic()
    try:
        document = _run(shown, options.build)
    except (ClusterError, KubeTLSError) as err:
        shown.verdict(str(err), is_ok=False)
        return 1
    except KeyboardInterrupt:
        shown.verdict("interrupted; all processes are ended", is_ok=False)
        return _INTERRUPTED
    text = json.dumps(document, indent=2) + "\n"
    (options.build / "demo-cluster.json").write_text(text, encoding="utf-8")
    shown.verdict(_summary(document, time.monotonic() - started), is_ok=bool(document["ok"]))
    return 0 if document["ok"] else 1


def _run(shown: Screen, build_folder: Path) -> dict[str, object]:
    shown.step("Building Kubernetes' own programs (about six minutes the first time)")
    build(CONTROL_PLANE)
    shown.step("Starting a real API server, controller manager, scheduler, and two hollow nodes")
    folder = build_folder / "demo-cluster"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    platform = folder / "platform.yaml"
    platform.write_text(PLATFORM)
    mounts = may_mount()
    with (
        ControlPlane(folder.absolute() / "cluster") as control_plane,
        HollowNode(control_plane, "node-1", mounts=mounts) as first,
        HollowNode(control_plane, "node-2", mounts=mounts) as second,
    ):
        nodes = {node.name: node for node in (first, second)}
        shown.step("Applying our manifests: injectors, signers, secret issuers, a driver a node")
        with Installation(
            control_plane,
            nodes,
            platform=PLATFORM,
            secret_namespaces=(LEGACY,),
            driver=NodeDriver.where(may_mount=mounts),
        ):
            shown.step("Applying the shop: Deployments that say nothing of certificates")
            with Shop(control_plane, nodes) as shop:
                return _show(shop, control_plane, platform.absolute(), shown)


def _show(
    shop: Shop, control_plane: ControlPlane, platform: Path, shown: Screen
) -> dict[str, object]:
    cases = [*identities(shop), *calls(shop), *legacy(shop), *driven(shop)]
    shown.table("What pods got, and who gets in with it", cases)
    refused = refusals(shop)
    shown.table("What the control plane does not give", refused)
    rotation = rotate(shop, control_plane, platform, shown)
    shown.table("The root was replaced", rotation.cases)
    load = shop.load()
    shown.facts("Meanwhile", _facts(rotation, load))
    return _document([*cases, *refused, *rotation.cases], rotation, load)


def _facts(rotation: Rotation, load: dict[str, object]) -> dict[str, str]:
    return {
        "requests of web": f"{load['requests']:,}",
        "sent again when a pod of orders ended": f"{load['repeated']}",
        "failed": f"{load['failed']} {load['failures'] or ''}",
        "new root in every volume after": f"{rotation.root_added:.0f} s",
        "new certificates in every pod after": f"{rotation.svid:.0f} s",
        "old root out of every volume after": f"{rotation.root_removed:.0f} s",
    }


def _document(cases: list[Case], rotation: Rotation, load: dict[str, object]) -> dict[str, object]:
    is_ok = all(case.is_ok for case in cases) and load["failed"] == 0
    return {
        "cases": [asdict(case) for case in cases],
        "requests": load["requests"],
        "failed": load["failed"],
        "repeated": load["repeated"],
        "seconds_to_effect": {
            "svid": round(rotation.svid, 2),
            "root_added": round(rotation.root_added, 2),
            "root_removed": round(rotation.root_removed, 2),
        },
        "ok": is_ok and int(str(load["requests"])) >= _FEWEST_REQUESTS,
    }


def _summary(document: dict[str, object], seconds: float) -> str:
    cases = document["cases"]
    assert isinstance(cases, list)  # noqa: S101 - for the type checker
    wrong = sum(case["expected"] != case["observed"] for case in cases)
    outcome = f"{wrong} of {len(cases)} are wrong" if wrong else "as expected"
    return (
        f"outcomes: {outcome}; requests: {document['requests']:,},"
        f" failed: {document['failed']}; took {seconds:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
