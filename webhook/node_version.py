# SPDX-License-Identifier: Apache-2.0
"""Which nodes are too old for pod certificates: their kubelet starts pods without the volume.

Spec: KEP-4317; the beta with `stubPKCS10Request` or `pkixPublicKey` is of Kubernetes 1.35.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ("OLDEST_KUBELET", "is_windows", "old_nodes")

OLDEST_KUBELET: Final = (1, 35)
_VERSION = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})(?:[.+-].*)?", re.ASCII)


def old_nodes(nodes: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Name the nodes that cannot have pod certificates, sorted.

    A kubelet whose version cannot be read counts as too old. Windows nodes do not count: their
    pods are not injected.
    """
    return tuple(sorted(node["metadata"]["name"] for node in nodes if _is_old(node)))


def is_windows(node: Mapping[str, Any]) -> bool:
    """Tell whether a node runs Windows."""
    return _about(node).get("operatingSystem") == "windows"


def _is_old(node: Mapping[str, Any]) -> bool:
    if is_windows(node):
        return False
    found = _VERSION.fullmatch(_about(node).get("kubeletVersion") or "")
    return found is None or (int(found[1]), int(found[2])) < OLDEST_KUBELET


def _about(node: Mapping[str, Any]) -> Mapping[str, Any]:
    about: Mapping[str, Any] = (node.get("status") or {}).get("nodeInfo") or {}
    return about
