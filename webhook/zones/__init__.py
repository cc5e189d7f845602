# SPDX-License-Identifier: Apache-2.0
"""Who trusts whom: zones of trust, partners and namespaces as a graph, and pictures of it.

Rules:
    1. The graph follows from the configuration alone; what a cluster has is held against it.
    2. Names from a cluster are somebody else's text: each writer escapes all of them.
"""
