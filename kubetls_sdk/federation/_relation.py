# SPDX-License-Identifier: Apache-2.0
"""The relation to one partner, from its declaration to its end.

Rules:
    1. Its state changes only through `take`; what arrives after its end has no effect, since its
       owner lets go of it first.
    2. An error is logged when it appears or changes, and once more when it is over.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from kubetls_sdk import metrics
from kubetls_sdk.federation._kept import Kept
from kubetls_sdk.federation.status import PartnerStatus

if TYPE_CHECKING:
    from datetime import datetime

    from kubetls_sdk.bundle import TrustBundle
    from kubetls_sdk.federation.partner import Partner

__all__ = ("Relation",)

_log = logging.getLogger("kubetls_sdk.federation")


class Relation:
    """One partner and what is known of it.

    Args:
        partner: As configured.

    Attributes:
        partner: As configured; its times may change while the relation goes on.
        kept: What is in force.
        bootstrap_tag: Tells one bundle of the operator's for the first fetch from the next.
        is_due: Whether to fetch now, since the operator has changed something.
        shadowed: Why another bundle of the trust domain is in force; None when it is ours.
    """

    def __init__(self, partner: Partner) -> None:
        self.partner = partner
        self.kept = Kept(partner.trust_domain)
        self.bootstrap_tag: str | None = None
        self._bootstrap: TrustBundle | None = None
        self._is_bootstrap_newer = False
        self.is_due = False
        self.shadowed: str | None = None
        self._is_dropped = False

    def goes_on_as(self, partner: Partner) -> bool:
        """Tell whether another declaration is of the same relation: only its times differ."""
        ours = self.partner
        return (partner.trust_domain, partner.endpoint, partner.bundle) == (
            ours.trust_domain,
            ours.endpoint,
            ours.bundle,
        )

    @property
    def known(self) -> TrustBundle | None:
        """The latest bundle of the partner: it verifies the next fetch of a self-serving one."""
        is_first = self.kept.bundle is None or self._is_bootstrap_newer
        return self._bootstrap if is_first else self.kept.bundle

    def begin_with(self, bundle: TrustBundle) -> None:
        """Verify the next fetch by a bundle of the operator's.

        One that the operator has replaced counts as the latest, and begins the sequence anew.

        Spec: SPIFFE Federation §4.2, §5.2.2.2.
        """
        if bundle == self._bootstrap:
            return
        self._bootstrap = bundle
        self.is_due = True
        before, self.bootstrap_tag = self.bootstrap_tag, _tag(bundle)
        if before not in (None, self.bootstrap_tag):
            self._is_bootstrap_newer = True
            self.kept = replace(self.kept, sequence=None)

    def take(self, found: TrustBundle | str, *, now: datetime) -> None:
        """Put the result of a fetch or a read in force."""
        before, self.kept = self.kept, self.kept.after(found, now=now)
        if self.kept.error is None:
            self._is_bootstrap_newer = False
        self._report(before)

    def remove(self, error: str, *, now: datetime) -> None:
        """Trust nobody of the partner from now on."""
        before, self.kept = self.kept, self.kept.without(error, now=now)
        self._report(before)

    def in_force(self, now: datetime) -> TrustBundle | None:
        """Whom to trust now, None when that is not ours to say."""
        self.kept = self.kept.at(now)
        found = self.kept.in_force(now, self.partner.max_stale_seconds)
        self._report_age(now)
        if found is None or self.shadowed is not None:
            return None
        return found

    def show(self, now: datetime) -> None:
        """Record what is in force in the metrics."""
        if not metrics.is_enabled() or self.shadowed is not None:
            return
        domain = str(self.partner.trust_domain)
        found = self.kept.in_force(now, self.partner.max_stale_seconds)
        age = 0.0 if self.kept.error is None else self.kept.age_seconds(now)
        metrics.set_gauge(metrics.BUNDLE_AUTHORITIES, len(found or ()), trust_domain=domain)
        metrics.set_gauge(metrics.BUNDLE_STALE_SECONDS, age, trust_domain=domain)

    def end(self) -> None:
        """Record that nobody of the partner is trusted any more."""
        _log.info("%s is no partner any more", self.partner.trust_domain)
        if self.shadowed is None:
            domain = str(self.partner.trust_domain)
            metrics.set_gauge(metrics.BUNDLE_AUTHORITIES, 0, trust_domain=domain)
            metrics.set_gauge(metrics.BUNDLE_STALE_SECONDS, 0, trust_domain=domain)

    def shadow(self, why: str | None) -> None:
        """Say that another bundle of the trust domain is in force, or that it is ours again."""
        if why != self.shadowed and why is not None:
            _log.error("partner %s: %s", self.partner.trust_domain, why)
        self.shadowed = why

    def status(self, now: datetime) -> PartnerStatus:
        """The state for people."""
        kept = self.kept
        found = None if self.shadowed else kept.in_force(now, self.partner.max_stale_seconds)
        return PartnerStatus(
            trust_domain=self.partner.trust_domain,
            authorities=len(found or ()),
            sequence=kept.sequence,
            changed_at=kept.changed_at,
            good_at=kept.good_at,
            error=self.shadowed or kept.error,
        )

    def _report(self, before: Kept) -> None:
        kept, domain = self.kept, self.partner.trust_domain
        if kept.error is not None and kept.error != before.error:
            _log.error("trust bundle of partner %s: %s", domain, kept.error)
        if kept.error is None and before.error is not None:
            _log.info("trust bundle of partner %s: recovered", domain)
        if kept.bundle is not None and kept.changed_at != before.changed_at:
            count = len(kept.bundle)
            plural = "authority" if count == 1 else "authorities"
            _log.info("trust bundle of partner %s: %d %s", domain, count, plural)

    def _report_age(self, now: datetime) -> None:
        is_stale = self.kept.is_stale(now, self.partner.max_stale_seconds)
        if is_stale and not self._is_dropped:
            _log.critical(
                "trust bundle of partner %s was not renewed for %g s: nobody of it is trusted",
                self.partner.trust_domain,
                self.kept.age_seconds(now),
            )
        self._is_dropped = is_stale


def _tag(bundle: TrustBundle) -> str:
    return hashlib.sha256(bundle.to_pem()).hexdigest()
