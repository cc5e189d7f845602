# SPDX-License-Identifier: Apache-2.0
"""How a zone's CA pool stands, for people (a table) and programs (JSON): never with a key.

Rules:
    1. Each entry says what it waits for, and until when, as far as that is known.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webhook.trust.pool_document import time_text
from webhook.trust.pool_entry import Origin, PoolEntry, State

if TYPE_CHECKING:
    from datetime import datetime

    from webhook.config import Zone
    from webhook.trust.ca_pool import CaPool

__all__ = ("PoolStatus", "Wait")

_HEADINGS = ("ID", "STATE", "ORIGIN", "FINGERPRINT (SHA-256)", "PUBLISHED", "EXPIRES", "WAITS FOR")


@dataclass(frozen=True, slots=True)
class Wait:
    """What has to come before the next step.

    Attributes:
        what: In words.
        until: Aware UTC time, when it is known.
    """

    what: str
    until: datetime | None = None

    def __str__(self) -> str:
        return self.what if self.until is None else f"{self.what} until {time_text(self.until)}"


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A zone and its pool.

    Attributes:
        zone: The zone.
        pool: Its pool.
    """

    zone: Zone
    pool: CaPool

    @property
    def is_settled(self) -> bool:
        """Whether one authority signs, and nothing is under way."""
        return len(self.pool.entries) == 1 and self.pool.rotation is None

    def wait_of(self, entry: PoolEntry) -> Wait | None:
        """What an entry waits for; None: nothing."""
        match entry.state:
            case State.NEXT:
                return self._wait_of_next(entry)
            case State.ACTIVE:
                return self._wait_of_active(entry)
            case State.RETIRED:
                return Wait("the last leaf under it", entry.last_leaf_not_after)
        return Wait("the bundle to be read back without it")

    def to_json(self) -> str:
        """The status as JSON."""
        rotation = self.pool.rotation
        document = {
            "zone": self.zone.name,
            "trustDomain": str(self.zone.trust_domain),
            "isSettled": self.is_settled,
            "rotation": None
            if rotation is None
            else {
                "requestedAt": time_text(rotation.requested_at),
                "cause": rotation.cause,
                "isForced": rotation.is_forced,
            },
            "authorities": [self._row(entry) for entry in self.pool.entries],
        }
        return json.dumps(document, indent=1) + "\n"

    def to_text(self, now: datetime) -> str:
        """The status as a table."""
        rows = [_HEADINGS, *(self._cells(entry, now) for entry in self.pool.entries)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        head = f"zone {self.zone.name}, trust domain {self.zone.trust_domain}"
        return "\n".join([head, *lines, self._sentence(), ""])

    def _sentence(self) -> str:
        if self.is_settled:
            return "Nothing is under way."
        if self.pool.is_rotating:
            forced = " without waiting for propagation" if self._is_forced else ""
            return f"A rotation is under way{forced}; until it signs, `ca abort` gives it up."
        return "The new authority signs; the old one stays trusted while leaves under it are valid."

    @property
    def _is_forced(self) -> bool:
        return self.pool.rotation is not None and self.pool.rotation.is_forced

    def _wait_of_next(self, entry: PoolEntry) -> Wait:
        rotation = self.pool.rotation
        if entry.published_at is None:
            return Wait("its publication in the trust bundle")
        if rotation is None:
            return Wait("an order: `ca rotate`")
        if rotation.is_forced:
            return Wait("the leader")
        return Wait("its propagation", self.pool.signs_from(self.zone.propagation))

    def _wait_of_active(self, entry: PoolEntry) -> Wait | None:
        if self.pool.is_rotating:
            successor = self.pool.next_entry
            return Wait("its successor" if successor else "the leader to make its successor")
        if entry.published_at is None:
            return Wait("its publication in the trust bundle")
        if entry.origin is Origin.IMPORTED:
            return Wait("the import of its successor", entry.renew_at)
        return None

    def _row(self, entry: PoolEntry) -> dict[str, Any]:
        wait = self.wait_of(entry)
        moments = {
            "createdAt": entry.created_at,
            "publishedAt": entry.published_at,
            "activatedAt": entry.activated_at,
            "retiredAt": entry.retired_at,
            "lastLeafNotAfter": entry.last_leaf_not_after,
            "notAfter": entry.not_after,
            "renewAt": entry.renew_at,
            "waitsUntil": wait.until if wait else None,
        }
        times = {key: at if at is None else time_text(at) for key, at in moments.items()}
        return {
            "id": entry.id,
            "state": entry.state.value,
            "origin": entry.origin.value,
            "subject": entry.anchor.subject.rfc4514_string(),
            "fingerprint": entry.fingerprint,
            "hasKey": entry.authority is not None,
            "waitsFor": wait.what if wait else None,
            **times,
        }

    def _cells(self, entry: PoolEntry, now: datetime) -> tuple[str, ...]:
        wait = self.wait_of(entry)
        return (
            entry.id,
            entry.state.value,
            entry.origin.value,
            entry.fingerprint,
            "no" if entry.published_at is None else time_text(entry.published_at),
            time_text(entry.not_after) + (" EXPIRED" if entry.not_after < now else ""),
            "-" if wait is None else str(wait),
        )
