# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.webhook.trust.pools import (
    DOMAIN,
    LIMITS,
    SECOND,
    anchors,
    fresh,
    published,
    root,
    rotated,
    states,
    with_next,
)
from tests.webhook.trust.world import LIFETIME, PROPAGATION, START
from webhook.exceptions import IssuanceError
from webhook.trust import pool_transition as to
from webhook.trust.ca_pool import CaPool
from webhook.trust.pool_entry import SIGNER_LAG, Origin, PoolError, State


class TestCreate:
    def test_the_first_authority_signs_at_once(self):
        """Nobody trusts anything else yet, so there is nothing to wait for."""
        pool = fresh()
        assert states(pool) == ["active"]
        assert pool.bundle.authorities == (pool.active.anchor,)

    def test_without_one_that_signs_requests_stay_pending(self):
        """A pool whose only authority waits has nobody to sign with, for now."""
        waiting = CaPool(DOMAIN, (with_next().entries[1],))
        with pytest.raises(IssuanceError) as caught:
            _ = waiting.active
        assert caught.value.is_retryable


class TestAddNext:
    def test_it_is_published_and_does_not_sign(self):
        """Both roots are in the bundle, the old one signs."""
        pool = with_next()
        assert states(pool) == ["active", "next"]
        assert len(pool.bundle) == 2
        assert pool.active == pool.entries[0].authority

    def test_there_is_one_at_a_time(self):
        """A second successor is refused."""
        with pytest.raises(PoolError, match="is next already"):
            to.add_next(
                with_next(), root("3"), origin=Origin.CREATED, entry_id="00000003", now=START
            )

    def test_a_key_comes_once(self):
        """The authority that signs cannot succeed itself."""
        pool = fresh()
        with pytest.raises(PoolError, match="expected a new key"):
            to.add_next(pool, pool.active, origin=Origin.IMPORTED, entry_id="00000002", now=START)


class TestObserve:
    def test_publication_begins_when_it_is_read_back(self):
        """Not when it was written, and not again each time it is seen."""
        pool = with_next()
        assert to.observe(pool, set(), now=START).next_entry.published_at is None
        seen = to.observe(pool, anchors(pool), now=START + SECOND)
        again = to.observe(seen, anchors(pool), now=START + PROPAGATION)
        assert again.next_entry.published_at == START + SECOND

    def test_one_that_vanished_begins_anew(self):
        """Somebody took the next root out of the bundle: kubelets may have taken it away."""
        pool = published()
        gone = to.observe(pool, {pool.active_entry.anchor_der}, now=START)
        assert gone.next_entry.published_at is None


class TestActivate:
    def test_not_before_its_propagation_has_passed(self):
        """One second early is too early."""
        with pytest.raises(PoolError, match="may sign from 2026-11-25T12:10:00Z on"):
            to.activate(published(), now=START + PROPAGATION - SECOND, **LIMITS)

    def test_force_shortens_the_wait(self):
        """A stolen key cannot wait for ten minutes."""
        pool = to.activate(published(), now=START, is_forced=True, **LIMITS)
        assert states(pool) == ["retired", "active"]

    def test_force_does_not_do_without_publication(self):
        """A leaf under a root that no bundle has is worthless."""
        with pytest.raises(PoolError, match="read back"):
            to.activate(with_next(), now=START, is_forced=True, **LIMITS)

    def test_both_stay_published(self):
        """The old root's leaves are still about."""
        assert len(rotated().bundle) == 2

    def test_the_old_one_s_last_leaf_is_reckoned(self):
        """From the moment that the slowest signer may have signed under it."""
        old = rotated().entries[0]
        assert old.last_leaf_not_after == START + PROPAGATION + SIGNER_LAG + LIFETIME

    def test_lifetimes_that_were_once_allowed_count(self):
        """A leaf of seven days that was issued before the configuration was tightened lives on."""
        pool = to.remember_lifetime(published(), timedelta(days=7))
        pool = to.remember_lifetime(pool, LIFETIME)
        old = to.activate(pool, now=START + PROPAGATION, **LIMITS).entries[0]
        assert old.last_leaf_not_after == START + PROPAGATION + SIGNER_LAG + timedelta(days=7)

    def test_no_leaf_outlives_its_root(self):
        """So a root that ends sooner ends the wait."""
        late = START + timedelta(days=3 * 365) - timedelta(hours=1)
        old = to.activate(published(), now=late, **LIMITS).entries[0]
        assert old.last_leaf_not_after == old.anchor.not_valid_after_utc


class TestTakeBack:
    def test_the_old_one_signs_again(self):
        """Every pod trusts it still, so there is no wait."""
        pool = to.take_back(rotated(), now=START + PROPAGATION + SECOND, longest_lifetime=LIFETIME)
        assert states(pool) == ["active", "retired"]
        assert pool.active_entry.last_leaf_not_after is None

    def test_without_a_retired_one_there_is_nothing_to_go_back_to(self):
        """A fresh pool has no past."""
        with pytest.raises(PoolError, match="retired authority that has its key"):
            to.take_back(fresh(), now=START, longest_lifetime=LIFETIME)

    def test_not_while_another_one_is_next(self):
        """Two changes at a time would leave nobody knowing which root comes."""
        with pytest.raises(PoolError, match="abort"):
            to.take_back(with_next(), now=START, longest_lifetime=LIFETIME)


class TestWithdraw:
    def test_not_while_a_leaf_may_be_valid(self):
        """Its last leaf expires at a known time."""
        pool = rotated()
        last = pool.entries[0].last_leaf_not_after
        with pytest.raises(PoolError, match="the last leaf"):
            to.withdraw(pool, "00000001", now=last - SECOND)
        assert states(to.withdraw(pool, "00000001", now=last)) == ["withdrawn", "active"]

    def test_force_does_it_at_once(self):
        """Seen replaced, or stolen."""
        pool = to.withdraw(rotated(), "00000001", now=START, is_forced=True)
        assert len(pool.bundle) == 1

    @pytest.mark.parametrize("entry_id", ["00000001", "00000002"], ids=["active", "next"])
    def test_only_what_is_retired(self, entry_id):
        """Neither what signs nor what will, whatever the force."""
        with pytest.raises(PoolError, match="expected a retired authority"):
            to.withdraw(with_next(), entry_id, now=START, is_forced=True)

    def test_an_unknown_one_is_an_error(self):
        """A typing mistake withdraws nothing."""
        with pytest.raises(PoolError, match="expected the id"):
            to.withdraw(rotated(), "ffffffff", now=START, is_forced=True)


class TestDrop:
    def test_the_key_goes_only_after_the_bundle_was_read_back_without_it(self):
        """While the old bundle is published, the pool knows what must be taken out of it."""
        pool = rotated()
        both = anchors(pool)
        pool = to.withdraw(pool, "00000001", now=START, is_forced=True)
        assert states(to.drop(pool, both)) == ["withdrawn", "active"]
        assert states(to.drop(pool, anchors(pool))) == ["active"]

    def test_an_anchor_that_another_one_has_too_holds_nothing_up(self):
        """Two intermediates under one corporate root: the root stays published."""
        pool = rotated()
        old, new = pool.entries
        shared = replace(old, anchor=new.anchor, state=State.WITHDRAWN)
        pool = pool.with_entries((shared, new))
        assert states(to.drop(pool, {new.anchor_der})) == ["active"]


class TestAbort:
    def test_what_is_next_leaves_the_bundle(self):
        """The old authority goes on as if nothing had been."""
        pool = to.abort(published())
        assert states(pool) == ["active", "withdrawn"]
        assert len(pool.bundle) == 1
        assert pool.rotation is None

    def test_not_after_it_signs(self):
        """Its leaves are about; going back is another step."""
        with pytest.raises(PoolError, match="does not sign yet"):
            to.abort(rotated())

    def test_not_without_another_one_that_signs(self):
        """A pool that nobody signs for would be the end of all issuing."""
        pool = with_next()
        lonely = pool.with_entries([pool.entries[1]])
        with pytest.raises(PoolError, match="there is no other"):
            to.abort(lonely)


class TestPoolRules:
    def test_two_cannot_sign(self):
        """Nor be next."""
        entry = fresh().entries[0]
        with pytest.raises(PoolError, match="at most one"):
            CaPool(DOMAIN, (entry, replace(entry, id="00000002")))

    def test_an_id_comes_once(self):
        """Orders name authorities by it."""
        entry = rotated().entries[0]
        with pytest.raises(PoolError, match="id once"):
            CaPool(DOMAIN, (entry, entry))

    def test_the_bundle_is_never_empty(self):
        """A pool with nothing to trust cannot be made."""
        entry = replace(fresh().entries[0], state=State.WITHDRAWN)
        with pytest.raises(PoolError, match="expected an authority that is published"):
            CaPool(DOMAIN, (entry,))

    def test_what_signs_has_its_key(self):
        """An entry without a key is retired or withdrawn."""
        with pytest.raises(PoolError, match="expected the key"):
            replace(fresh().entries[0], authority=None)

    def test_no_repr_shows_a_key(self):
        """Pool and entry tell ids and states only."""
        pool = with_next()
        assert repr(pool) == "<CaPool example.org: 00000001 active, 00000002 next>"
        assert "PRIVATE" not in repr(pool.entries[0])
        assert repr(pool.entries[0]).startswith("<PoolEntry 00000001 active ")
