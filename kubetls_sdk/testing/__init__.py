# SPDX-License-Identifier: Apache-2.0
"""The testing kit: a trust domain of your own, SVIDs with chosen faults, volumes that rotate.

For tests and development machines, never for production. Needs no pytest; the fixtures for pytest
are in `kubetls_sdk.testing.pytest_plugin`, which pytest finds by itself.

    ca = DevelopmentCA("example.org")
    volume = KubeletVolume(tmp_path / "orders")
    volume.write_svid(ca.issue("/ns/shop/sa/orders"), [ca.bundle])
"""

from __future__ import annotations

from .authority import Authority, IssuedChain
from .ca import DevelopmentCA
from .draft import name_constraints
from .faults import FAULTS
from .keys import KEY_TYPES, KeyType
from .layout import LAYOUTS, Layout, volume_files
from .leaf_options import LeafOptions
from .volume import KubeletVolume
from .workload_volume import WorkloadVolume

__all__ = (
    "FAULTS",
    "KEY_TYPES",
    "LAYOUTS",
    "Authority",
    "DevelopmentCA",
    "IssuedChain",
    "KeyType",
    "KubeletVolume",
    "Layout",
    "LeafOptions",
    "WorkloadVolume",
    "name_constraints",
    "volume_files",
)
