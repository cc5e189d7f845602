# SPDX-License-Identifier: Apache-2.0
"""The state of a federation for people and monitoring.

Rules:
    1. Values only, and nothing here is secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("FederationStatus", "PartnerStatus")


@dataclass(frozen=True, slots=True)
class PartnerStatus:
    """One partner.

    Attributes:
        trust_domain: Its own.
        authorities: How many of them are in force; 0 trusts nobody.
        sequence: The greatest sequence number that was seen.
        changed_at: When the content in force was first seen; None before the first.
        good_at: When it was last confirmed.
        error: What is wrong now; None when nothing is.
    """

    trust_domain: TrustDomain
    authorities: int
    sequence: int | None
    changed_at: datetime | None
    good_at: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True)
class FederationStatus:
    """All partners.

    Attributes:
        partners: In the order of their trust domains.
        error: Why the federation file was not used when it was last read; None when it was.
    """

    partners: tuple[PartnerStatus, ...] = ()
    error: str | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now, in one clause each."""
        found = [f"{each.trust_domain}: {each.error}" for each in self.partners if each.error]
        return (*((self.error,) if self.error else ()), *found)
