# SPDX-License-Identifier: Apache-2.0
"""What stays in force of a partner after a fetch or a read, as a value.

Rules:
    1. A failure keeps the last good bundle, until it is too old; then nobody is trusted.
    2. A sequence number never goes back: a document with a smaller one is a failure, unless it
       brings the very keys that are in force.
    3. An empty bundle is no failure: the partner has revoked everything.
    4. Pure: the clock is an argument.

Spec: SPIFFE Federation §4.2, §6.2; SPIFFE Trust Domain and Bundle §4.1.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kubetls_sdk.bundle import TrustBundle

if TYPE_CHECKING:
    from datetime import datetime

    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("Kept",)


@dataclass(frozen=True, slots=True)
class Kept:
    """The state of one partner.

    Attributes:
        trust_domain: Its own.
        bundle: The last good one, without sequence and hint, so that a new number alone is no new
            content; None before the first.
        sequence: The greatest that was ever seen.
        refresh_hint: Of the last good document.
        changed_at: When this content was first seen.
        good_at: When it was last confirmed.
        error: Why the last attempt failed; None when it did not.
    """

    trust_domain: TrustDomain
    bundle: TrustBundle | None = None
    sequence: int | None = None
    refresh_hint: int | None = None
    changed_at: datetime | None = None
    good_at: datetime | None = None
    error: str | None = None

    def after(self, found: TrustBundle | str, *, now: datetime) -> Kept:
        """The state after an attempt: its bundle, or why there is none."""
        if isinstance(found, str):
            return replace(self, error=found)
        if self._is_older(found):
            return replace(
                self,
                error=f"expected a sequence of {self.sequence} or more, got {found.sequence}",
            )
        sequences = [each for each in (self.sequence, found.sequence) if each is not None]
        is_same = self._has_keys_of(found)
        return Kept(
            self.trust_domain,
            self.bundle if is_same else replace(found, sequence=None, refresh_hint=None),
            sequence=max(sequences, default=None),
            refresh_hint=found.refresh_hint,
            changed_at=self.changed_at if is_same else now,
            good_at=now,
        )

    def is_stale(self, now: datetime, max_stale_seconds: float) -> bool:
        """Whether the last good bundle is too old to be trusted, error or not."""
        return self.age_seconds(now) > max_stale_seconds

    def age_seconds(self, now: datetime) -> float:
        """Since the last good bundle was confirmed; 0 before the first."""
        return 0.0 if self.good_at is None else (now - self.good_at).total_seconds()

    def in_force(self, now: datetime, max_stale_seconds: float) -> TrustBundle | None:
        """Whom to trust now; None before the first good bundle."""
        if self.bundle is None or not self.is_stale(now, max_stale_seconds):
            return self.bundle
        return TrustBundle(self.trust_domain, ())

    def at(self, now: datetime) -> Kept:
        """The state for a clock that may have been set back, which must not lengthen its life."""
        if self.good_at is None or self.good_at <= now:
            return self
        return replace(self, good_at=now)

    def changed_since(self, moment: datetime) -> Kept:
        """The state of a content that was first seen earlier."""
        return replace(self, changed_at=moment)

    def without(self, error: str, *, now: datetime) -> Kept:
        """The state after the bundle was taken away: nobody is trusted at once."""
        nobody = TrustBundle(self.trust_domain, ())
        if self.bundle == nobody and self.error == error:
            return replace(self, good_at=now)
        return Kept(self.trust_domain, nobody, changed_at=now, good_at=now, error=error)

    def _is_older(self, found: TrustBundle) -> bool:
        if self.sequence is None or found.sequence is None or found.sequence >= self.sequence:
            return False
        return not self._has_keys_of(found)

    def _has_keys_of(self, found: TrustBundle) -> bool:
        last = self.bundle
        return (
            last is not None
            and last.authorities == found.authorities
            and last.jwt_authorities == found.jwt_authorities
        )
