# SPDX-License-Identifier: Apache-2.0
"""What other SPIFFE libraries do with bundles of partners, as tables, and what we do."""
