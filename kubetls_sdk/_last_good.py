# SPDX-License-Identifier: Apache-2.0
"""What stays in force after a read of the volume: the two opposite rules of failure, as a value.

Rules:
    1. Identity fails soft: an SVID on disk that cannot be used keeps the last good one.
    2. Trust fails closed: a bundle that is empty or gone is removed at once; one that cannot be
       read, or whose volume vanished, keeps its last good authorities for `max_stale`, then none.
    3. A valid SVID on disk always wins. One outside its validity wins only over one that is outside
       as well and expires earlier, so an expired file replaces nothing better.
    4. Pure: the clock is an argument. The text of a problem does not change while it lasts, so
       whoever reports changes reports each problem once.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.exceptions import CredentialError, VolumeError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from kubetls_sdk.spiffe_id import TrustDomain
    from kubetls_sdk.svid import X509Svid
    from kubetls_sdk.volume import Volume

__all__ = ("KeptBundle", "LastGood", "Problem", "refresh_point")

_REFRESH_FRACTION = 2 / 3
_REFRESH_GRACE_FRACTION = 0.05
_MAX_REFRESH_GRACE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong for as long as it is in `LastGood.problems`.

    Attributes:
        kind: `volume`, `svid`, `bundle`, `bundle-dropped`, `not-refreshed` or `expired`.
        subject: What it is about, in words. One problem per subject.
        text: One clause for a log line.
        level: A level of `logging`.
    """

    kind: str
    subject: str
    text: str
    level: int = logging.ERROR


@dataclass(frozen=True, slots=True)
class KeptBundle:
    """A bundle in force, and since when.

    Attributes:
        bundle: The authorities; none once it was stale for too long.
        changed_at: When this content was first read.
        good_at: When it was last read without an error.
        error: Why it is stale; None while it is not.
    """

    bundle: TrustBundle
    changed_at: datetime
    good_at: datetime
    error: CredentialError | None = None


@dataclass(frozen=True, slots=True)
class LastGood:
    """What is in force, and what is wrong.

    Attributes:
        svid: Our SVID; None before the first good one.
        bundles: One for each trust domain that the volume names.
        problems: What is wrong now.
    """

    svid: X509Svid | None = None
    bundles: Mapping[TrustDomain, KeptBundle] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def after(self, read: Volume | VolumeError, *, now: datetime, max_stale: timedelta) -> LastGood:
        """What is in force after one more look at the volume.

        Args:
            read: The content, or why there is none.
            now: Aware time of the look.
            max_stale: How long a bundle that cannot be read stays in force.
        """
        if isinstance(read, VolumeError):
            return self._without_volume(read, now, max_stale)
        svid, svid_problem = self._svid_after(read.svid, now)
        kept = {
            domain: self._bundle_after(domain, found, now, max_stale)
            for domain, found in read.bundles.items()
        }
        problems = [Problem("bundle", str(e.path), f"{e}; ignored") for e in read.misnamed]
        problems += [svid_problem] if svid_problem else []
        problems += _bundle_problems(kept, max_stale, now) + _age_problems(svid, now)
        return LastGood(svid, kept, tuple(problems))

    def _without_volume(self, error: VolumeError, now: datetime, max_stale: timedelta) -> LastGood:
        """The volume itself is the problem: each bundle's own is reported only when it is dropped.

        What was wrong before is neither repaired nor reported again.
        """
        kept = {
            domain: self._bundle_after(domain, error, now, max_stale) for domain in self.bundles
        }
        problems = [each for each in self.problems if each.kind in ("svid", "bundle")]
        problems += [Problem("volume", "volume", f"{error}; keeping what was read last")]
        dropped = _bundle_problems(kept, max_stale, now)
        problems += [each for each in dropped if each.kind == "bundle-dropped"]
        problems += _age_problems(self.svid, now)
        return LastGood(self.svid, kept, tuple({p.subject: p for p in problems}.values()))

    def _svid_after(
        self, found: X509Svid | CredentialError, now: datetime
    ) -> tuple[X509Svid | None, Problem | None]:
        last = self.svid
        kept = f"; keeping {last!r}" if last is not None else ""
        if isinstance(found, CredentialError):
            return last, Problem("svid", "SVID", f"{found}{kept}")
        if found == last or found.is_valid_at(now):
            return (last if found == last else found), None
        outside = Problem("svid", "SVID", f"{_outside(found, now)}{kept}")
        if last is None or last.is_valid_at(now) or found.not_after <= last.not_after:
            return last, outside
        return found, None

    def _bundle_after(
        self,
        trust_domain: TrustDomain,
        found: TrustBundle | CredentialError,
        now: datetime,
        max_stale: timedelta,
    ) -> KeptBundle:
        last = self.bundles.get(trust_domain)
        if isinstance(found, TrustBundle):
            changed = last is None or last.bundle != found
            return KeptBundle(found, now if changed or not last else last.changed_at, now)
        nobody = TrustBundle(trust_domain, ())
        if last is None:
            return KeptBundle(nobody, now, now - max_stale, found)
        # A clock that was set back must not lengthen the life of a stale bundle.
        good_at = min(last.good_at, now)
        if now - good_at < max_stale:
            return replace(last, good_at=good_at, error=found)
        changed_at = now if len(last.bundle) else last.changed_at
        return KeptBundle(nobody, changed_at, good_at, found)


def refresh_point(svid: X509Svid) -> datetime:
    """When a healthy issuer has replaced the files: two thirds of the lifetime, and some grace."""
    lifetime = svid.not_after - svid.not_before
    grace = min(lifetime * _REFRESH_GRACE_FRACTION, _MAX_REFRESH_GRACE)
    return svid.not_before + lifetime * _REFRESH_FRACTION + grace


def _outside(svid: X509Svid, now: datetime) -> str:
    if now > svid.not_after:
        when = f"expired at {svid.not_after:%Y-%m-%dT%H:%M:%SZ}"
    else:
        start = f"{svid.not_before:%Y-%m-%dT%H:%M:%SZ}"
        when = f"is not valid before {start} (is the clock of the node right?)"
    return f"expected a valid SVID on disk, got {svid.spiffe_id} that {when}"


def _bundle_problems(
    kept: Mapping[TrustDomain, KeptBundle], max_stale: timedelta, now: datetime
) -> list[Problem]:
    problems: list[Problem] = []
    for domain, each in kept.items():
        subject = f"trust bundle of {str(domain)!r}"
        if each.error is None:
            continue
        if now - each.good_at >= max_stale:
            text = f"{each.error}; nobody of {str(domain)!r} is trusted until it can be read"
            problems.append(Problem("bundle-dropped", subject, text, logging.CRITICAL))
        else:
            until = f"{each.good_at + max_stale:%Y-%m-%dT%H:%M:%SZ}"
            text = f"{each.error}; keeping the last good bundle of {str(domain)!r} until {until}"
            problems.append(Problem("bundle", subject, text))
    return problems


def _age_problems(svid: X509Svid | None, now: datetime) -> list[Problem]:
    subject = "age of our SVID"
    if svid is None:
        return []
    if now > svid.not_after:
        text = f"our SVID {svid!r} has expired and was not replaced: peers refuse us"
        return [Problem("expired", subject, text, logging.CRITICAL)]
    if now > refresh_point(svid):
        text = (
            f"the files have not been replaced though our SVID {svid!r} is past its refresh point:"
            " is the issuer down, or is the volume mounted by subPath, which is never updated?"
        )
        return [Problem("not-refreshed", subject, text, logging.WARNING)]
    return []
