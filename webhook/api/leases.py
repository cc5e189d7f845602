# SPDX-License-Identifier: Apache-2.0
"""Replicas by Leases: who shares the work, and who leads."""

from __future__ import annotations

from webhook.api.leadership import Leadership
from webhook.api.membership import Membership

__all__ = ("Leadership", "Membership")
