# SPDX-License-Identifier: Apache-2.0
"""The main job of the control plane, on a real API server: `make demo-cluster`."""
