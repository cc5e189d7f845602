# SPDX-License-Identifier: Apache-2.0
"""A real node: kubelet, containerd and runc, in namespaces of its own (Linux, root)."""

from .image import write_image
from .real_node import RealNode
from .tree import busybox_tree, python_tree

__all__ = ("RealNode", "busybox_tree", "python_tree", "write_image")
