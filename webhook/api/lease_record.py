# SPDX-License-Identifier: Apache-2.0
"""A Lease, and when a change of it was last seen *here*.

Rules:
    1. Another's clock is never compared with ours: a Lease is alive for as long after its last
       change as seen locally, on the monotonic clock. So clock skew neither steals nor keeps one.

Spec: client-go `tools/leaderelection`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Sighting", "holder", "micro_time", "parse_time", "renewed_spec")


@dataclass(frozen=True, slots=True)
class Sighting:
    """One state of a Lease and the monotonic second at which it was first seen here."""

    resource_version: str
    since: float

    @classmethod
    def of(cls, lease: Mapping[str, Any], last: Sighting | None, now: float) -> Sighting:
        """Keep the last sighting while the Lease is unchanged."""
        version = lease["metadata"]["resourceVersion"]
        if last is not None and last.resource_version == version:
            return last
        return cls(version, now)


def holder(lease: Mapping[str, Any]) -> str:
    """Who holds the Lease; empty when nobody does."""
    return str((lease.get("spec") or {}).get("holderIdentity") or "")


def renewed_spec(
    lease: Mapping[str, Any] | None, identity: str, *, seconds: float, now: datetime
) -> dict[str, Any]:
    """The spec of a Lease that `identity` takes or renews; an empty identity gives it back."""
    before: Mapping[str, Any] = (lease or {}).get("spec") or {}
    stays = before.get("holderIdentity") == identity and before.get("acquireTime")
    transitions = int(before.get("leaseTransitions") or 0)
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": max(1, round(seconds)),
        "acquireTime": before["acquireTime"] if stays else micro_time(now),
        "renewTime": micro_time(now),
        "leaseTransitions": transitions if stays or not identity else transitions + 1,
    }


def micro_time(moment: datetime) -> str:
    """Write a time as Kubernetes' MicroTime."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: object) -> datetime | None:
    """Read a MicroTime or Time; None when it is none."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else None
