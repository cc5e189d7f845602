# SPDX-License-Identifier: Apache-2.0
"""What a volume source writes to the log and the metrics.

Rules:
    1. A problem is logged when it appears or changes, and once more when it is over.
    2. Both say what is wrong with which file, never what a file holds.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kubetls_sdk import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from kubetls_sdk._last_good import LastGood, Problem
    from kubetls_sdk.source import Snapshot

__all__ = ("log_problems", "log_wait", "record_look", "record_removed")

_log = logging.getLogger("kubetls_sdk.volume_source")


def log_wait(seconds: float, missing: str) -> None:
    """Log what a start waits for, so that nobody looks at a silent process."""
    _log.warning("waiting at most %g s for usable credentials: %s", seconds, missing)


def log_problems(before: Sequence[Problem], now: Sequence[Problem]) -> None:
    """Log what is new, and what was and is no more."""
    for problem in now:
        if problem not in before:
            _log.log(problem.level, "%s", problem.text)
            metrics.increment(metrics.VOLUME_PROBLEMS, kind=problem.kind)
    subjects = {problem.subject for problem in now}
    for problem in before:
        if problem.subject not in subjects:
            _log.info("%s: recovered", problem.subject)


def record_look(
    last: LastGood, snapshot: Snapshot | None, now: datetime, *, is_changed: bool
) -> None:
    """Record one look at the volume and what is in force after it."""
    if not metrics.is_enabled():
        return
    failed = any(each.kind in ("volume", "svid", "bundle") for each in last.problems)
    result = "failed" if failed else "changed" if is_changed else "unchanged"
    metrics.increment(metrics.VOLUME_RELOADS, result=result)
    if snapshot is not None:
        metrics.set_gauge(metrics.GENERATION, snapshot.generation)
        metrics.set_gauge(metrics.SVID_NOT_AFTER, snapshot.svid.not_after.timestamp())
    for domain, kept in last.bundles.items():
        stale = (now - kept.good_at).total_seconds() if kept.error is not None else 0.0
        metrics.set_gauge(metrics.BUNDLE_AUTHORITIES, len(kept.bundle), trust_domain=str(domain))
        metrics.set_gauge(metrics.BUNDLE_STALE_SECONDS, stale, trust_domain=str(domain))


def record_removed(before: LastGood, now: LastGood) -> None:
    """Show the bundles that were removed as what they are: without authorities."""
    for domain in before.bundles.keys() - now.bundles.keys():
        metrics.set_gauge(metrics.BUNDLE_AUTHORITIES, 0, trust_domain=str(domain))
        metrics.set_gauge(metrics.BUNDLE_STALE_SECONDS, 0, trust_domain=str(domain))
