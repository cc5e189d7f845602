# SPDX-License-Identifier: Apache-2.0
"""One Lease: what is in it, when a change of it was last seen *here*, and how it is written.

Rules:
    1. Another's clock is never compared with ours: a Lease lives for its duration after its last
       change as seen locally, on the monotonic clock. Clock skew neither steals nor keeps one.
    2. Each write is a compare-and-swap with what was read or written last.

Spec: client-go `tools/leaderelection`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from webhook.api.errors import NotFoundError
from webhook.api.resources import LEASES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webhook.api.client import Api

__all__ = ("Lease", "Sighting", "holder", "micro_time", "parse_time", "renewed_spec")

_KEPT: Final = ("resourceVersion", "uid", "labels", "annotations", "ownerReferences")


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


class Lease:
    """A Lease by its name, as last read or written.

    Attributes:
        last: The object; None when it is not known, or not there.
    """

    def __init__(
        self, api: Api, namespace: str, name: str, *, labels: Mapping[str, str] | None = None
    ) -> None:
        self._api = api
        self._namespace = namespace
        self.name = name
        self._labels = dict(labels or {})
        self.last: dict[str, Any] | None = None

    async def read(self) -> dict[str, Any] | None:
        """Read it; None when there is none.

        Raises:
            ApiError: It cannot be read.
        """
        try:
            self.last = await self._api.get(LEASES, self.name, namespace=self._namespace)
        except NotFoundError:
            self.last = None
        return self.last

    async def write(self, identity: str, *, seconds: float) -> None:
        """Take or renew it for an identity, or give it back (empty identity); create it if need be.

        Raises:
            ConflictError: It has changed since.
            AlreadyExistsError: It was created since.
            NotFoundError: It was deleted since.
            ApiError: Any other failure.
        """
        spec = renewed_spec(self.last, identity, seconds=seconds, now=datetime.now(UTC))
        metadata: dict[str, Any] = {"name": self.name, "namespace": self._namespace}
        if self.last is None:
            body = {"metadata": metadata | {"labels": self._labels}, "spec": spec}
            self.last = await self._api.create(LEASES, body)
            return
        before = self.last["metadata"]
        metadata |= {key: before[key] for key in _KEPT if key in before}
        metadata["labels"] = (before.get("labels") or {}) | self._labels
        self.last = await self._api.replace(LEASES, {"metadata": metadata, "spec": spec})


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
