# SPDX-License-Identifier: Apache-2.0
"""The zones' SPIFFE bundle endpoint: what partners fetch our trust bundles from.

It has no right but to read ClusterTrustBundles, which every service account may.
"""
