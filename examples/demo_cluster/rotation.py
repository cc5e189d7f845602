# SPDX-License-Identifier: Apache-2.0
"""The root is replaced with overlap while web calls orders without a pause.

A short propagation time stands in for the usual ten minutes: the pods are replaced once while both
roots are published, so that all of them trust both before the new one signs, and once more to have
certificates under it. The old root leaves the bundle when no pod has a certificate under it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cryptography import x509

from cluster import binaries
from cluster.exceptions import ClusterError
from examples.demo_cluster.cases import call
from examples.demonstration.case import Case

if TYPE_CHECKING:
    from pathlib import Path

    from cluster import ControlPlane
    from examples.demo_cluster.shop import Shop
    from examples.demonstration.screen import Screen
    from kubetls_sdk.source import Snapshot

__all__ = ("Rotation", "rotate")

_KUBELET_SECONDS = 240.0
_BUNDLE = (
    "/apis/certificates.k8s.io/v1/clustertrustbundles"
    "/kubetls.gauntletwizard.net:workload:example.org"
)


@dataclass(frozen=True, slots=True)
class Rotation:
    """What came of it.

    Attributes:
        cases: What happened to a caller under the old root.
        root_added: Seconds from the new root's publication until every volume had it.
        svid: Seconds from the first signature of the new root until every pod had its own.
        root_removed: Seconds from the old root's withdrawal until no volume had it.
    """

    cases: tuple[Case, ...]
    root_added: float
    svid: float
    root_removed: float


def rotate(shop: Shop, control_plane: ControlPlane, platform: Path, screen: Screen) -> Rotation:
    """Replace the root of the shop's zone.

    Raises:
        ClusterError: A step is not done in time.
    """
    old = shop.snapshot_of(shop.pod("web"))
    old_root, old_signs = _roots(old), _signing(control_plane, platform)
    before = call(shop, old)
    screen.step("Rotating the root: python -m webhook ca rotate")
    _ca(control_plane, platform, "rotate")
    shop.wait(lambda: len(_published(control_plane)) == 2, "two roots in the trust bundle")
    started = time.monotonic()
    screen.step("Both roots are published: replacing the pods, so that all trust both")
    shop.roll("orders", "web", "guest")
    shop.wait(lambda: all(len(_roots(each)) == 2 for each in shop.snapshots()), "both roots")
    root_added = time.monotonic() - started
    screen.step("Waiting for the new root to sign")
    shop.wait(lambda: _signing(control_plane, platform) != old_signs, "it to sign")
    started = time.monotonic()
    screen.step("The new root signs: replacing the pods once more, for certificates under it")
    shop.roll("orders", "web", "guest")
    svid = time.monotonic() - started
    screen.step("Waiting until the old root has left the bundle and every volume")
    shop.wait(lambda: not old_root & _published(control_plane), "it to leave", _KUBELET_SECONDS)
    started = time.monotonic()
    shop.wait(
        lambda: not any(old_root & _roots(each) for each in shop.snapshots()),
        "no volume with the old root",
        _KUBELET_SECONDS,
    )
    root_removed = time.monotonic() - started
    new = shop.snapshot_of(shop.pod("web"))
    kept = replace(old, bundles=new.bundles)
    cases = (
        Case("web under the old root, before", "200", before),
        Case("web under the old root, after it was removed", "refused", call(shop, kept)),
        Case("web under the new root", "200", call(shop, new)),
    )
    return Rotation(cases, root_added, svid, root_removed)


def _roots(snapshot: Snapshot) -> frozenset[x509.Certificate]:
    """The roots that a pod trusts in its own domain."""
    bundle = snapshot.bundles[snapshot.svid.spiffe_id.trust_domain]
    return frozenset(bundle.authorities)


def _published(control_plane: ControlPlane) -> frozenset[x509.Certificate]:
    """The roots in the ClusterTrustBundle."""
    found = control_plane.api.get(_BUNDLE)["spec"]["trustBundle"]
    return frozenset(x509.load_pem_x509_certificates(found.encode()))


def _signing(control_plane: ControlPlane, platform: Path) -> str:
    """The id of the authority that signs."""
    status = json.loads(_ca(control_plane, platform, "status", "--json"))
    return next(each["id"] for each in status["authorities"] if each["state"] == "active")


def _ca(control_plane: ControlPlane, platform: Path, *order: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "webhook", "ca", f"--config={platform}", *order],
        env={**os.environ, "KUBECONFIG": str(control_plane.kubeconfig)},
        cwd=binaries.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ClusterError(f"python -m webhook ca {' '.join(order)}: {done.stderr.strip()}")
    return done.stdout
