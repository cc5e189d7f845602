# SPDX-License-Identifier: Apache-2.0
"""Trust: the CA pools of our zones, their rotation, the bundles that are published, our own CA.

All of it is the elected leader's work; signer replicas only read pools (`ca_store.PoolSource`).
"""

__all__ = ()
