# SPDX-License-Identifier: Apache-2.0
"""The authorities of one zone: which one signs, and which pods must trust.

`pool_transition` has the steps from one pool to the next.

Rules:
    1. A value, in which at most one authority signs and at most one is next.
    2. Every authority that is not withdrawn is in the bundle, and the bundle is never empty.
    3. A pool belongs to one trust domain for ever.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

from kubetls_sdk.bundle import TrustBundle
from webhook.exceptions import IssuanceError
from webhook.trust.pool_entry import Origin, PoolEntry, PoolError, State

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta

    from kubetls_sdk.spiffe_id import TrustDomain
    from webhook.issuance.authority import Authority
    from webhook.trust.root_certificate import RootKeyType

__all__ = ("CaPool", "Rotation", "new_entry_id")

_ID_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Rotation:
    """The intent to replace the authority that signs.

    Attributes:
        requested_at: Aware UTC time.
        cause: Somebody asked, or the authority grew old.
        entry_id: The successor, once there is one.
        is_forced: Let it sign as soon as it is published.
        key_type: Of a successor that is made; None: as before.
        validity: Of a successor that is made; None: as before.
    """

    requested_at: datetime
    cause: Literal["asked", "age"] = "asked"
    entry_id: str | None = None
    is_forced: bool = False
    key_type: RootKeyType | None = None
    validity: timedelta | None = None


@dataclass(frozen=True, slots=True, repr=False)
class CaPool:
    """The authorities of one zone.

    Attributes:
        trust_domain: Whose leaves they sign.
        entries: Oldest first.
        rotation: The intent that is being carried out, or None.
        bundle: The anchors that are, or must be, published.

    Raises:
        PoolError: More than one signs or is next, an id twice, or nothing is published.
        BundleError: An anchor is none.
    """

    trust_domain: TrustDomain
    entries: tuple[PoolEntry, ...]
    rotation: Rotation | None = None
    bundle: TrustBundle = field(init=False, compare=False)

    def __post_init__(self) -> None:
        for state in (State.ACTIVE, State.NEXT):
            if len(self.entries_in(state)) > 1:
                raise PoolError(f"expected at most one authority to be {state}")
        if len({entry.id for entry in self.entries}) != len(self.entries):
            raise PoolError("expected each authority's id once")
        anchors = tuple(entry.anchor for entry in self.entries if entry.is_published)
        if not anchors:
            raise PoolError("expected an authority that is published: an empty bundle trusts none")
        object.__setattr__(self, "bundle", TrustBundle(self.trust_domain, anchors))

    @classmethod
    def create(
        cls,
        trust_domain: TrustDomain,
        authority: Authority,
        *,
        origin: Origin,
        entry_id: str,
        now: datetime,
        adopted: Iterable[PoolEntry] = (),
    ) -> CaPool:
        """Begin a pool; the authority signs at once, unless others are published already.

        Args:
            trust_domain: Of the zone.
            authority: The first one.
            origin: Where it comes from.
            entry_id: Of the first one.
            now: Aware UTC time.
            adopted: What pods trust already, though its key is lost: then the authority waits
                for its publication as any successor does.
        """
        older = tuple(adopted)
        first = PoolEntry(
            id=entry_id,
            state=State.NEXT if older else State.ACTIVE,
            origin=origin,
            anchor=authority.anchor,
            authority=authority,
            created_at=now,
            activated_at=None if older else now,
        )
        rotation = Rotation(now, entry_id=entry_id) if older else None
        return cls(trust_domain, (*older, first), rotation)

    @property
    def active(self) -> Authority:
        """The authority that signs.

        Raises:
            IssuanceError: There is none yet; retryable.
        """
        entry = self.active_entry
        if entry is None or entry.authority is None:
            raise IssuanceError(
                f"no authority of {str(self.trust_domain)!r} may sign yet",
                reason="NoActiveAuthority",
                is_retryable=True,
            )
        return entry.authority

    @property
    def active_entry(self) -> PoolEntry | None:
        """The entry that signs, if there is one."""
        return next(iter(self.entries_in(State.ACTIVE)), None)

    @property
    def next_entry(self) -> PoolEntry | None:
        """The entry that will sign next, if there is one."""
        return next(iter(self.entries_in(State.NEXT)), None)

    @property
    def is_rotating(self) -> bool:
        """Whether a successor is asked for that does not sign yet."""
        if self.rotation is None:
            return False
        active = self.active_entry
        return active is None or active.id != self.rotation.entry_id

    def entries_in(self, state: State) -> tuple[PoolEntry, ...]:
        """The entries in a state, oldest first."""
        return tuple(entry for entry in self.entries if entry.state is state)

    def entry(self, entry_id: str) -> PoolEntry:
        """The entry with this id.

        Raises:
            PoolError: There is none.
        """
        for entry in self.entries:
            if entry.id == entry_id:
                return entry
        raise PoolError(f"expected the id of an authority in the pool, got {entry_id!r}")

    def signs_from(self, propagation: timedelta) -> datetime | None:
        """When the next authority may sign; None while there is none or it is not published."""
        entry = self.next_entry
        if entry is None or entry.published_at is None:
            return None
        return entry.published_at + propagation

    def with_entries(self, entries: Iterable[PoolEntry]) -> CaPool:
        """A pool of other entries, with the same intent."""
        return replace(self, entries=tuple(entries))

    def __repr__(self) -> str:
        states = ", ".join(f"{entry.id} {entry.state}" for entry in self.entries)
        return f"<CaPool {self.trust_domain}: {states}>"


def new_entry_id() -> str:
    """Eight random hexadecimal digits."""
    return secrets.token_hex(_ID_BYTES)
