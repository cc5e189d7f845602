# SPDX-License-Identifier: Apache-2.0
"""What stays in force after a read: identity fails soft, trust fails closed."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from kubetls_sdk import BundleError, SvidError, TrustBundle, VolumeError
from kubetls_sdk._last_good import LastGood, refresh_point
from kubetls_sdk.testing import DevelopmentCA
from kubetls_sdk.volume import Volume

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
CA = DevelopmentCA("example.org", now=NOW - HOUR * 24)
PARTNER = DevelopmentCA("partner.example", now=NOW - HOUR * 24)
OWN, OTHER = CA.trust_domain, PARTNER.trust_domain
SVID = CA.issue(not_before=NOW - HOUR, ttl=HOUR * 24)
NEXT = CA.issue(not_before=NOW - HOUR, ttl=HOUR * 24)
BOTH = {OWN: CA.bundle, OTHER: PARTNER.bundle}
GONE = VolumeError("expected a directory, got nothing")
BROKEN = BundleError("garbage")


def volume(svid=SVID, bundles=BOTH, misnamed=()):
    return Volume("/v", "spiffe", svid, bundles, misnamed)


def after(*reads, start=NOW, step=MINUTE, max_stale=HOUR):
    """The state after looks at `start`, `start + step`, ..."""
    state = LastGood()
    for number, read in enumerate(reads):
        state = state.after(read, now=start + number * step, max_stale=max_stale)
    return state


def kinds(state):
    return [problem.kind for problem in state.problems]


class TestSvid:
    def test_a_valid_one_is_taken(self):
        """A valid SVID on disk replaces the last one."""
        state = after(volume(), volume(NEXT))
        assert (state.svid, state.problems) == (NEXT, ())

    def test_a_valid_one_is_taken_though_it_expires_earlier(self):
        """The files decide: a shorter but valid SVID is what the issuer wants."""
        short = CA.issue(not_before=NOW - MINUTE, ttl=HOUR)
        assert after(volume(), volume(short)).svid == short

    @pytest.mark.parametrize(
        "broken",
        [
            pytest.param(SvidError("mismatch", path="/v/tls.crt"), id="unusable"),
            pytest.param(VolumeError("missing", path="/v/tls.key"), id="missing"),
            pytest.param(CA.issue(not_before=NOW - 3 * HOUR, ttl=HOUR), id="expired"),
            pytest.param(CA.issue(not_before=NOW + HOUR, ttl=HOUR), id="not yet valid"),
        ],
    )
    def test_an_unusable_one_keeps_the_last(self, broken):
        """Nothing that cannot be used replaces what can, and one problem says so."""
        state = after(volume(), volume(broken))
        assert (state.svid, kinds(state)) == (SVID, ["svid"])
        assert f"keeping {SVID!r}" in state.problems[0].text

    def test_the_problem_is_the_same_at_each_look(self):
        """While it lasts the text does not change, so that it is logged once."""
        expired = volume(CA.issue(not_before=NOW - 3 * HOUR, ttl=HOUR))
        assert after(volume(), expired).problems == after(volume(), expired, expired).problems

    def test_one_that_becomes_valid_is_taken_then(self):
        """A not yet valid SVID is judged again at each look."""
        later = volume(CA.issue(not_before=NOW + 2 * MINUTE, ttl=HOUR))
        assert after(volume(), later).svid == SVID
        assert after(volume(), later, later).svid == later.svid

    def test_expired_replaces_earlier_expired(self):
        """Of two expired SVIDs the one that lived longer is kept."""
        old = CA.issue(not_before=NOW - 2 * HOUR, ttl=HOUR * 2 + MINUTE / 2)
        older = CA.issue(not_before=NOW - 2 * HOUR, ttl=HOUR)
        newer = CA.issue(not_before=NOW - 2 * HOUR, ttl=HOUR * 2 + MINUTE / 2 + MINUTE / 6)
        assert after(volume(old), volume(older)).svid == old
        assert after(volume(old), volume(newer)).svid == newer

    def test_none_before_the_first_valid_one(self):
        """At the start an expired SVID is no SVID."""
        expired = volume(CA.issue(not_before=NOW - 3 * HOUR, ttl=HOUR))
        state = after(expired)
        assert (state.svid, kinds(state)) == (None, ["svid"])
        assert "that expired at 2030-01-01T10:00:00Z" in state.problems[0].text

    def test_clock_skew_is_named(self):
        """A start before the validity asks about the clock."""
        state = after(volume(CA.issue(not_before=NOW + HOUR, ttl=HOUR)))
        assert "is the clock of the node right?" in state.problems[0].text


class TestAge:
    def test_refresh_point(self):
        """Two thirds of the lifetime, with five minutes or a twentieth of grace."""
        long = CA.issue(not_before=NOW, ttl=HOUR * 24)
        short = CA.issue(not_before=NOW, ttl=HOUR)
        assert refresh_point(long) == NOW + HOUR * 16 + MINUTE * 5
        assert refresh_point(short) == NOW + MINUTE * 43

    def test_warns_well_before_expiry(self):
        """Files that did not change past the refresh point are named, and subPath as a cause."""
        state = after(volume(), volume(), step=HOUR * 16)
        (problem,) = state.problems
        assert (problem.kind, problem.level) == ("not-refreshed", logging.WARNING)
        assert "mounted by subPath" in problem.text

    def test_not_before_that(self):
        """A healthy issuer that renews at two thirds causes no warning."""
        assert after(volume(), volume(), step=HOUR * 15).problems == ()

    def test_expiry(self):
        """The expired SVID stays, with a problem of the highest level."""
        state = after(volume(), volume(), step=HOUR * 24)
        assert state.svid == SVID
        assert [(p.kind, p.level) for p in state.problems] == [("expired", logging.CRITICAL)]

    def test_renewal_ends_it(self):
        """With the new files the warning is over."""
        renewed = CA.issue(not_before=NOW + HOUR * 15, ttl=HOUR * 24)
        assert after(volume(), volume(renewed), step=HOUR * 16).problems == ()


class TestTrust:
    def test_removed_at_once(self):
        """A bundle that is gone from a complete read is gone."""
        assert set(after(volume(), volume(bundles={OWN: CA.bundle})).bundles) == {OWN}

    def test_empty_at_once(self):
        """A readable and empty bundle trusts nobody from this look on."""
        empty = TrustBundle(OTHER, ())
        state = after(volume(), volume(bundles={OWN: CA.bundle, OTHER: empty}))
        assert (state.bundles[OTHER].bundle, state.problems) == (empty, ())

    def test_removed_while_the_svid_is_broken(self):
        """A broken SVID does not hold up a removal."""
        state = after(volume(), volume(SvidError("mismatch"), {OWN: CA.bundle}))
        assert (state.svid, set(state.bundles)) == (SVID, {OWN})

    def test_unparsable_keeps_the_last_good_one(self):
        """Only that bundle is stale; the other one follows its file."""
        new_own = TrustBundle(OWN, ())
        state = after(volume(), volume(bundles={OWN: new_own, OTHER: BROKEN}))
        assert state.bundles[OWN].bundle == new_own
        assert state.bundles[OTHER].bundle == PARTNER.bundle
        assert kinds(state) == ["bundle"]
        assert "keeping the last good bundle of 'partner.example' until 2030-01-01T13:00:00Z" in (
            state.problems[0].text
        )

    @pytest.mark.parametrize(
        "broken",
        [
            pytest.param(volume(bundles={OWN: BROKEN, OTHER: BROKEN}), id="unparsable"),
            pytest.param(GONE, id="vanished"),
        ],
    )
    def test_for_a_bounded_age(self, broken):
        """Up to `max_stale` after the last good look it is trusted, from then on nobody is."""
        before = after(volume(), broken, broken, step=MINUTE * 59 / 2)
        assert before.bundles[OWN].bundle == CA.bundle
        assert before.bundles[OTHER].bundle == PARTNER.bundle
        state = after(volume(), broken, broken, step=MINUTE * 30)
        assert [len(kept.bundle) for kept in state.bundles.values()] == [0, 0]
        assert kinds(state).count("bundle-dropped") == 2

    def test_age_counts_from_the_last_good_look(self):
        """A good look in between starts the time anew."""
        broken = volume(bundles={OWN: BROKEN})
        state = after(volume(), broken, volume(), broken, step=MINUTE * 40)
        assert len(state.bundles[OWN].bundle) == 1

    def test_max_stale_of_zero(self):
        """Without grace an unreadable bundle trusts nobody at once."""
        assert len(after(volume(), GONE, max_stale=timedelta(0)).bundles[OWN].bundle) == 0

    def test_a_clock_that_is_set_back(self):
        """It does not lengthen the life of a stale bundle beyond `max_stale` from then."""
        state = after(volume())
        state = state.after(GONE, now=NOW - 100 * HOUR, max_stale=HOUR)
        state = state.after(GONE, now=NOW - 99 * HOUR, max_stale=HOUR)
        assert len(state.bundles[OWN].bundle) == 0

    def test_dropped_trust_comes_back_with_the_file(self):
        """A bundle that can be read again is in force again."""
        state = after(volume(), GONE, volume(), step=HOUR)
        assert (state.bundles[OWN].bundle, state.problems) == (CA.bundle, ())

    def test_unparsable_from_the_start(self):
        """Without a last good bundle nobody is trusted."""
        state = after(volume(bundles={OWN: CA.bundle, OTHER: BROKEN}))
        assert len(state.bundles[OTHER].bundle) == 0
        assert kinds(state) == ["bundle-dropped"]

    def test_changed_at(self):
        """The age of trust is that of its content, not that of the last look."""
        state = after(volume(), volume(), volume(bundles={OWN: TrustBundle(OWN, ())}))
        assert state.bundles[OWN].changed_at == NOW + 2 * MINUTE
        assert after(volume(), volume()).bundles[OWN].changed_at == NOW

    def test_misnamed(self):
        """A bundle that counts for nobody is reported."""
        state = after(volume(misnamed=(BundleError("no trust domain", path="/v/X"),)))
        assert [p.text for p in state.problems] == ["/v/X: no trust domain; ignored"]


class TestVanishedVolume:
    def test_keeps_everything(self):
        """SVID and bundles stay, and one problem is reported for all of them."""
        state = after(volume(), GONE)
        assert (state.svid, kinds(state)) == (SVID, ["volume"])
        assert {d: kept.bundle for d, kept in state.bundles.items()} == BOTH

    def test_does_not_repair_what_was_broken(self):
        """A problem of the SVID is neither over nor new when the volume vanishes as well."""
        broken = volume(SvidError("mismatch"))
        assert kinds(after(volume(), broken, GONE)) == ["svid", "volume"]
