# SPDX-License-Identifier: Apache-2.0
"""What containerd, its network and the kubelet are told: pure functions of paths and names.

Rules:
1. Addresses and ports need not be free: the node has a network namespace of its own.
2. The node's address and those of all Services are on its loopback interface: whoever listens
   there, is what pods reach at the Service's address (`forwarder`, `services`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NODE_ADDRESS = "10.254.0.1"
SERVICE_PORT = 443
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
PAUSE_IMAGE = "kubetls.example/pause:1"
_PODS = "10.88.0.0/24"


def containerd(root: Path, *, plugins: Path, network: Path, snapshotter: str) -> str:
    """The configuration of containerd; it works on machines where little is allowed, too."""
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""\
version = 2
root = "{root}"
state = "/run/containerd"
[grpc]
  address = "{CONTAINERD_SOCKET}"
[{cri}]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  [{cri}.cni]
    bin_dir = "{plugins}"
    conf_dir = "{network}"
  [{cri}.containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [{cri}.containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def network() -> str:
    """The pods' network: a pair of interfaces and a route a pod."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": _PODS}]]}
    plugin = {"type": "ptp", "ipam": {**ipam, "routes": [{"dst": "0.0.0.0/0"}]}}
    return json.dumps({"cniVersion": "0.4.0", "name": "kubetls", "plugins": [plugin]})


def kubelet(folder: Path, *, authority: Path, feature_gates: Mapping[str, bool]) -> str:
    """The kubelet's configuration: no limits on the machine, no log of another's."""
    document: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "readOnlyPort": 0,
        "authentication": {"x509": {"clientCAFile": str(authority)}},
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "featureGates": dict(feature_gates),
        "makeIPTablesUtilChains": False,
        "resolvConf": "",
        "evictionHard": {"memory.available": "10Mi", "nodefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "podLogsDir": str(folder / "pod-logs"),
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
    }
    return json.dumps(document, indent=1)
