# SPDX-License-Identifier: Apache-2.0
"""The state of a source for people and monitoring: what is in force, since when, what is wrong.

Rules:
    1. Values only: nothing here reads a file or a clock, and nothing here is secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from datetime import datetime

    from kubetls_sdk._last_good import KeptBundle
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("BundleStatus", "SourceStatus")


@dataclass(frozen=True, slots=True)
class BundleStatus:
    """One trust bundle in force.

    Attributes:
        trust_domain: Whose authorities it holds.
        authorities: How many; 0 trusts nobody.
        changed_at: When this process first saw this content: the age to show beside an error
            about an unknown issuer, since new roots reach pods minutes late.
        good_at: When it was last read without an error.
        error: Why it cannot be read now; None while it can.
    """

    trust_domain: TrustDomain
    authorities: int
    changed_at: datetime
    good_at: datetime
    error: str | None = None

    @classmethod
    def of(cls, kept: KeptBundle) -> Self:
        """The status of a bundle that a source keeps."""
        return cls(
            trust_domain=kept.bundle.trust_domain,
            authorities=len(kept.bundle),
            changed_at=kept.changed_at,
            good_at=kept.good_at,
            error=None if kept.error is None else str(kept.error),
        )


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """What the last look at a volume found.

    Attributes:
        directory: Where the volume is mounted.
        layout: Name of the layout; None when none was recognised.
        generation: Of the snapshot in force; 0 before the first.
        last_change: When that generation was put in force; None before the first.
        problems: What is wrong now, in one clause each; empty when all is well.
        svid_not_after: When the SVID in force expires; None before the first.
        bundles: The trust bundles in force.
    """

    directory: str
    layout: str | None = None
    generation: int = 0
    last_change: datetime | None = None
    problems: tuple[str, ...] = ()
    svid_not_after: datetime | None = None
    bundles: tuple[BundleStatus, ...] = ()

    @property
    def last_error(self) -> str | None:
        """The first of the problems, or None when all is well."""
        return self.problems[0] if self.problems else None

    @property
    def stale_bundles(self) -> tuple[BundleStatus, ...]:
        """The bundles that cannot be read now."""
        return tuple(bundle for bundle in self.bundles if bundle.error is not None)
