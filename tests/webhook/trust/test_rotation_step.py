# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.webhook.trust.pools import anchors, fresh, rotated, states, with_next
from tests.webhook.trust.world import LIFETIME, PROPAGATION, START
from webhook.trust.ca_pool import Rotation
from webhook.trust.rotation_step import View, advance

LONG = timedelta(days=30)


def view(published, *, now=START, replaced=()):
    return View(now, PROPAGATION, LIFETIME, frozenset(published), frozenset(replaced))


def settled(pool, seen):
    """The pool when nothing is due any more."""
    for _ in range(20):
        after = advance(pool, seen)
        if after == pool:
            return pool
        pool = after
    raise AssertionError(f"no end: {pool!r}")


class TestAdvance:
    def test_one_step_at_a_time(self):
        """Each is a write of its own."""
        pool = replace(fresh(), rotation=Rotation(START))
        first = advance(pool, view(anchors(pool)))
        assert first.entries[0].published_at == START
        assert states(first) == ["active"]

    def test_a_settled_pool_stays_as_it_is(self):
        """Looking costs no write."""
        pool = fresh()
        pool = settled(pool, view(anchors(pool)))
        assert advance(pool, view(anchors(pool))) == pool

    def test_what_is_not_in_the_bundle_is_not_published(self):
        """Whatever it is."""
        pool = settled(with_next(), view(()))
        assert [entry.published_at for entry in pool.entries] == [None, None]

    @pytest.mark.parametrize(
        "seen",
        [
            pytest.param({"now": START + LONG}, id="expired"),
            pytest.param({"replaced": ["00000001"]}, id="replaced"),
        ],
    )
    def test_nothing_leaves_while_what_signs_is_not_in_the_bundle(self, seen):
        """Somebody took the new root out: the old one is all that pods have."""
        pool = rotated()
        old = pool.entries[0].anchor_der
        assert states(settled(pool, view({old}, **seen))) == ["retired", "active"]
        assert states(settled(pool, view(anchors(pool), **seen))) == ["withdrawn", "active"]

    def test_a_next_root_that_nobody_asked_for_waits(self):
        """It was imported, and signs when a rotation is ordered."""
        pool = with_next()
        pool = settled(pool, view(anchors(pool)))
        assert states(settled(pool, view(anchors(pool), now=START + LONG))) == ["active", "next"]
        pool = replace(pool, rotation=Rotation(START))
        late = view(anchors(pool), now=START + PROPAGATION)
        assert states(settled(pool, late)) == ["retired", "active"]
