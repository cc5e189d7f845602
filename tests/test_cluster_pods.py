# SPDX-License-Identifier: Apache-2.0
"""What a container of a hollow node's pod sees, told in paths of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster import container_view
from cluster.hollow_node import HollowNode

MOUNTS = [
    {"name": "identity", "mountPath": "/run/identity"},
    {"name": "kubelet", "mountPath": "/var/lib/kubelet/"},
    {"name": "state", "mountPath": "/state"},
    {"name": "shared", "mountPath": "/shared"},
]
VOLUMES = [
    {"name": "identity", "csi": {"driver": "example"}},
    {"name": "kubelet", "hostPath": {"path": "/var/lib/kubelet"}},
    {"name": "state", "hostPath": {"path": "/var/lib/example"}},
    {"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}},
]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[HollowNode]:
    """A node that was never started."""
    options = SimpleNamespace(feature_gates={})
    made = HollowNode(SimpleNamespace(folder=tmp_path, options=options), "n")
    yield made
    made.close()


class TestMountedPaths:
    def test_each_kind(self) -> None:
        """Volumes of plug-ins and folders of the node are told; what nobody made is left out."""
        pod = {"spec": {"volumes": VOLUMES}}
        paths = container_view.mounted_paths(
            pod,
            {"volumeMounts": MOUNTS},
            lambda name, kind: Path("/volumes") / kind / name,
            lambda path: Path("/node") / path.lstrip("/"),
        )
        assert {key: str(path) for key, path in paths.items()} == {
            "/run/identity": "/volumes/csi/identity",
            "/var/lib/kubelet": "/node/var/lib/kubelet",
            "/state": "/node/var/lib/example",
        }


class TestHostPath:
    @pytest.mark.parametrize(
        ("path", "below"),
        [
            pytest.param("/var/lib/kubelet", "kubelet", id="the-kubelet's"),
            pytest.param("/var/lib/kubelet/plugins/a", "kubelet/plugins/a", id="within-it"),
            pytest.param("/var/lib/kubelets", "host/var/lib/kubelets", id="beside-it"),
        ],
    )
    def test_place(self, node: HollowNode, path: str, below: str) -> None:
        """The kubelet's folder is where this node has it; another is made, for its owner only."""
        found = node.host_path(path)
        assert found == node.root.parent / below
        assert found.is_dir()


class TestVolumeOf:
    def test_driver(self, node: HollowNode) -> None:
        """A CSI driver's files are one folder below those of the kubelet's own plug-ins."""
        assert node.volume_of("u", "v", kind="csi").parts[-4:] == (
            "volumes", "kubernetes.io~csi", "v", "mount",
        )  # fmt: skip
