# SPDX-License-Identifier: Apache-2.0
"""The steps of a CA pool: each is a pure function from a pool to the next one.

Rules:
    1. A step that is not allowed is a `PoolError` that says what stands against it.
    2. A new authority signs no sooner than a propagation time after it was read back from the
       bundle; forcing shortens the wait, never the publication.
    3. An old one leaves the bundle only when no leaf under it can be valid any more, or was seen
       replaced. Nobody reports which bundle a kubelet has mounted: time and expiry are the proof.
    4. A key is forgotten only after the bundle was read back without its anchor.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from webhook.trust.pool_entry import Origin, PoolEntry, PoolError, State

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime, timedelta

    from webhook.issuance.authority import Authority
    from webhook.trust.ca_pool import CaPool

__all__ = (
    "abort",
    "activate",
    "add_next",
    "drop",
    "observe",
    "remember_lifetime",
    "take_back",
    "withdraw",
)


def add_next(
    pool: CaPool, authority: Authority, *, origin: Origin, entry_id: str, now: datetime
) -> CaPool:
    """Add an authority that will sign next.

    An anchor that is published already, as that of a second intermediate under one corporate
    root, need not be waited for again.

    Raises:
        PoolError: There is one already, or this one has another's key.
    """
    if pool.next_entry is not None:
        raise PoolError(f"authority {pool.next_entry.id} is next already: let it sign or abort")
    _check_new(pool, authority)
    same = [each for each in pool.entries if each.is_published and each.anchor == authority.anchor]
    entry = PoolEntry(
        id=entry_id,
        state=State.NEXT,
        origin=origin,
        anchor=authority.anchor,
        authority=authority,
        created_at=now,
        published_at=same[0].published_at if same else None,
    )
    return pool.with_entries((*pool.entries, entry))


def observe(pool: CaPool, published: Collection[bytes], *, now: datetime) -> CaPool:
    """Note which anchors were read back from the bundle.

    One that is next and has gone from the bundle begins its propagation anew.

    Args:
        pool: As it is.
        published: DER of the anchors in the bundle, as it was read.
        now: Aware UTC time.
    """

    def seen(entry: PoolEntry) -> PoolEntry:
        is_there = entry.anchor_der in published
        if entry.state is State.NEXT and not is_there:
            return replace(entry, published_at=None)
        if is_there and entry.is_published and entry.published_at is None:
            return replace(entry, published_at=now)
        return entry

    return pool.with_entries(map(seen, pool.entries))


def activate(
    pool: CaPool,
    *,
    now: datetime,
    propagation: timedelta,
    longest_lifetime: timedelta,
    is_forced: bool = False,
) -> CaPool:
    """Let the next authority sign, and retire the one that did.

    Raises:
        PoolError: There is none, it is not published, or not for long enough and not forced.
    """
    start, chosen = pool.signs_from(propagation), pool.next_entry
    if start is None or chosen is None:
        raise PoolError("expected an authority that is next and was read back from the bundle")
    if now < start and not is_forced:
        raise PoolError(f"authority {chosen.id} may sign from {start:%Y-%m-%dT%H:%M:%SZ} on")
    return _let_sign(pool, chosen, now=now, longest_lifetime=longest_lifetime)


def take_back(pool: CaPool, *, now: datetime, longest_lifetime: timedelta) -> CaPool:
    """Let the authority that was retired last sign again: every pod trusts it still.

    Raises:
        PoolError: None was retired that has its key, or another one is next.
    """
    if pool.next_entry is not None:
        raise PoolError(f"authority {pool.next_entry.id} is next: abort the rotation instead")
    retired = [each for each in pool.entries_in(State.RETIRED) if each.authority is not None]
    if not retired:
        raise PoolError("expected a retired authority that has its key")
    latest = max(retired, key=lambda entry: entry.retired_at or entry.created_at)
    back = _let_sign(pool, latest, now=now, longest_lifetime=longest_lifetime)
    return replace(back, rotation=None)


def remember_lifetime(pool: CaPool, longest_lifetime: timedelta) -> CaPool:
    """Remember the longest lifetime that leaves may have had, when it grew."""

    def widened(entry: PoolEntry) -> PoolEntry:
        is_longer = entry.state is State.ACTIVE and longest_lifetime > entry.longest_lifetime
        return replace(entry, longest_lifetime=longest_lifetime) if is_longer else entry

    return pool.with_entries(map(widened, pool.entries))


def withdraw(pool: CaPool, entry_id: str, *, now: datetime, is_forced: bool = False) -> CaPool:
    """Take a retired authority out of the bundle.

    Args:
        pool: As it is.
        entry_id: Which.
        now: Aware UTC time.
        is_forced: Although leaves under it may be valid: seen replaced, or a stolen key.

    Raises:
        PoolError: It is not retired, or leaves under it may be valid and it is not forced.
    """
    entry = pool.entry(entry_id)
    if entry.state is not State.RETIRED or entry.last_leaf_not_after is None:
        raise PoolError(f"expected a retired authority, got {entry_id} which is {entry.state}")
    if now < entry.last_leaf_not_after and not is_forced:
        last = f"{entry.last_leaf_not_after:%Y-%m-%dT%H:%M:%SZ}"
        raise PoolError(f"the last leaf under authority {entry_id} expires at {last}")
    return _replacing(pool, replace(entry, state=State.WITHDRAWN))


def drop(pool: CaPool, published: Collection[bytes]) -> CaPool:
    """Forget withdrawn authorities, keys included, that the bundle was read back without.

    Args:
        pool: As it is.
        published: DER of the anchors in the bundle, as it was read.
    """
    waited_for = set(published) - {each.anchor_der for each in pool.entries if each.is_published}
    return pool.with_entries(
        each for each in pool.entries if each.is_published or each.anchor_der in waited_for
    )


def abort(pool: CaPool) -> CaPool:
    """Give up a rotation, and what is next, before it signs.

    Raises:
        PoolError: There is nothing to give up, or no other authority signs.
    """
    successor = pool.next_entry
    if successor is None and not pool.is_rotating:
        raise PoolError("expected a rotation whose successor does not sign yet")
    if pool.active_entry is None:
        raise PoolError("expected an authority that goes on signing: there is no other")
    kept = pool
    if successor is not None:
        kept = _replacing(pool, replace(successor, state=State.WITHDRAWN))
    return replace(kept, rotation=None)


def _let_sign(
    pool: CaPool, chosen: PoolEntry, *, now: datetime, longest_lifetime: timedelta
) -> CaPool:
    def moved(entry: PoolEntry) -> PoolEntry:
        if entry.id == chosen.id:
            return _signing(entry, now, longest_lifetime)
        if entry.state is State.ACTIVE:
            return _retired(entry, now, longest_lifetime)
        return entry

    return pool.with_entries(map(moved, pool.entries))


def _signing(entry: PoolEntry, now: datetime, longest_lifetime: timedelta) -> PoolEntry:
    return replace(
        entry,
        state=State.ACTIVE,
        activated_at=now,
        retired_at=None,
        last_leaf_not_after=None,
        longest_lifetime=max(longest_lifetime, entry.longest_lifetime),
    )


def _retired(entry: PoolEntry, now: datetime, longest_lifetime: timedelta) -> PoolEntry:
    return replace(
        entry,
        state=State.RETIRED,
        retired_at=now,
        last_leaf_not_after=entry.last_expiry(now, longest_lifetime),
    )


def _check_new(pool: CaPool, authority: Authority) -> None:
    key = authority.certificate.public_key()
    for entry in pool.entries:
        if any(known.public_key() == key for known in entry.certificates):
            raise PoolError(f"expected a new key, got one of authority {entry.id}")


def _replacing(pool: CaPool, new: PoolEntry) -> CaPool:
    return pool.with_entries(new if entry.id == new.id else entry for entry in pool.entries)
