# SPDX-License-Identifier: Apache-2.0
"""Three ways to let a partner's workloads call ours: `python -m examples.partner`."""
