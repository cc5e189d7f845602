# SPDX-License-Identifier: Apache-2.0
"""How fast: each benchmark measures side by side with what a user would pick instead."""
