# SPDX-License-Identifier: Apache-2.0
"""The node driver: for each pod of its node, a volume with a key that was made on this node."""

__all__ = ()
