# SPDX-License-Identifier: Apache-2.0
"""What the leader does next with a CA pool: at most one step, decided from what it sees.

    asked or old -> a successor is made -> published and read back -> propagation waited for
    -> it signs, the old one is retired -> its last leaf has expired or was seen replaced
    -> withdrawn from the bundle -> read back without it -> forgotten, key included

Rules:
    1. Pure: two leaders that see the same decide the same, and one that died left nothing behind
       but the pool and the bundle.
    2. The bundle that is seen was read *before* the pool was: it is never newer than the pool.
    3. Nothing leaves the bundle while the authority that signs is not in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from webhook.trust import pool_transition as to
from webhook.trust.ca_pool import CaPool, Rotation, new_entry_id
from webhook.trust.pool_entry import Origin, PoolEntry, State
from webhook.trust.root_certificate import BACKDATE, DEFAULT_VALIDITY, new_root, root_key_type

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from webhook.issuance.authority import Authority

__all__ = ("View", "advance")


@dataclass(frozen=True, slots=True)
class View:
    """What the leader sees.

    Attributes:
        now: Aware UTC time in whole seconds.
        propagation: How long a new root is published before it signs.
        longest_lifetime: The longest that any leaf of the zone may have.
        published: DER of the anchors in the bundle, as it was read.
        replaced: Ids of retired authorities no leaf of which is in use any more.
    """

    now: datetime
    propagation: timedelta
    longest_lifetime: timedelta
    published: frozenset[bytes]
    replaced: frozenset[str] = frozenset()


def advance(pool: CaPool, view: View) -> CaPool:
    """Take the first step that is due; the same pool when none is."""
    for step in _STEPS:
        after = step(pool, view)
        if after != pool:
            return after
    return pool


def _observe(pool: CaPool, view: View) -> CaPool:
    return to.observe(pool, view.published, now=view.now)


def _remember_lifetime(pool: CaPool, view: View) -> CaPool:
    return to.remember_lifetime(pool, view.longest_lifetime)


def _forget(pool: CaPool, view: View) -> CaPool:
    return to.drop(pool, view.published)


def _want_by_age(pool: CaPool, view: View) -> CaPool:
    """Ask for a successor at two thirds of a root's life; of an import, only its owner can."""
    active = pool.active_entry
    if active is None or pool.is_rotating or view.now < active.renew_at:
        return pool
    if active.origin is Origin.IMPORTED and pool.next_entry is None:
        return pool
    return replace(pool, rotation=Rotation(view.now, cause="age"))


def _find_successor(pool: CaPool, view: View) -> CaPool:
    rotation = pool.rotation
    if rotation is None or rotation.entry_id is not None:
        return pool
    if pool.next_entry is not None:
        return replace(pool, rotation=replace(rotation, entry_id=pool.next_entry.id))
    entry_id = new_entry_id()
    root = _successor(pool, rotation, entry_id, view.now)
    grown = to.add_next(pool, root, origin=Origin.CREATED, entry_id=entry_id, now=view.now)
    return replace(grown, rotation=replace(rotation, entry_id=entry_id))


def _successor(pool: CaPool, rotation: Rotation, entry_id: str, now: datetime) -> Authority:
    model = pool.active_entry or pool.entries[-1]
    return new_root(
        pool.trust_domain,
        entry_id,
        now=now,
        key_type=rotation.key_type or root_key_type(model.anchor),
        validity=rotation.validity or _validity(model),
    )


def _validity(model: PoolEntry) -> timedelta:
    if model.origin is not Origin.CREATED:
        return DEFAULT_VALIDITY
    root = model.anchor
    return root.not_valid_after_utc - root.not_valid_before_utc - BACKDATE


def _activate(pool: CaPool, view: View) -> CaPool:
    start, rotation, chosen = pool.signs_from(view.propagation), pool.rotation, pool.next_entry
    if start is None or rotation is None or chosen is None or rotation.entry_id != chosen.id:
        return pool
    if view.now < start and not rotation.is_forced:
        return pool
    return to.activate(
        pool,
        now=view.now,
        propagation=view.propagation,
        longest_lifetime=view.longest_lifetime,
        is_forced=rotation.is_forced,
    )


def _withdraw(pool: CaPool, view: View) -> CaPool:
    active = pool.active_entry
    if active is None or active.anchor_der not in view.published:
        return pool
    for entry in pool.entries_in(State.RETIRED):
        is_over = entry.last_leaf_not_after is not None and entry.last_leaf_not_after <= view.now
        if is_over or entry.id in view.replaced:
            return to.withdraw(pool, entry.id, now=view.now, is_forced=True)
    return pool


def _finish(pool: CaPool, _: View) -> CaPool:
    if pool.is_rotating or len(pool.entries) > 1:
        return pool
    return replace(pool, rotation=None)


_STEPS: tuple[Callable[[CaPool, View], CaPool], ...] = (
    _observe,
    _remember_lifetime,
    _forget,
    _want_by_age,
    _find_successor,
    _activate,
    _withdraw,
    _finish,
)
