# SPDX-License-Identifier: Apache-2.0
"""What the demonstrations are made of: processes, what the wire shows, and tables."""
