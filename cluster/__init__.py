# SPDX-License-Identifier: Apache-2.0
"""A real Kubernetes cluster on this machine for development and tests.

```python
with ControlPlane() as control_plane, HollowNode(control_plane, "node-1") as node:
    control_plane.api.get("/api/v1/namespaces")
```
"""

from .control_plane import ControlPlane
from .exceptions import ApiStatusError, ClusterError, ProgramMissingError, StartError
from .flags import (
    ONLY_BETA,
    WITH_BETA,
    WITHOUT_POD_CERTIFICATES,
    WITHOUT_TRUST_BUNDLES,
    Options,
)
from .hollow_node import HollowNode, may_mount

__all__ = (
    "ONLY_BETA",
    "WITHOUT_POD_CERTIFICATES",
    "WITHOUT_TRUST_BUNDLES",
    "WITH_BETA",
    "ApiStatusError",
    "ClusterError",
    "ControlPlane",
    "HollowNode",
    "Options",
    "ProgramMissingError",
    "StartError",
    "may_mount",
)
