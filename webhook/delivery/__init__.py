# SPDX-License-Identifier: Apache-2.0
"""What we ourselves put into a pod's volume, where the kubelet does not: Secret and csi mode."""

__all__ = ()
