# SPDX-License-Identifier: Apache-2.0
"""What stays in force after each outcome of a fetch, as a table."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.federation._kept import Kept
from kubetls_sdk.testing import DevelopmentCA

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
CA = DevelopmentCA("partner.example")
ONE = CA.bundle
CA.add_root()
TWO = CA.bundle
NOBODY = TrustBundle(CA.trust_domain, ())


def bundle(keys, sequence):
    return replace({"one": ONE, "two": TWO, "none": NOBODY}[keys], sequence=sequence)


def after(*found):
    kept = Kept(CA.trust_domain)
    for number, each in enumerate(found):
        kept = kept.after(each, now=NOW + timedelta(minutes=number))
    return kept


class TestSequence:
    @pytest.mark.parametrize(
        ("first", "then", "in_force", "is_error"),
        [
            pytest.param(("one", 1), ("two", 2), TWO, False, id="forward"),
            pytest.param(("one", 1), ("two", 99), TWO, False, id="with a gap"),
            pytest.param(("two", 2), ("one", 1), TWO, True, id="back"),
            pytest.param(("two", 2), ("none", 1), TWO, True, id="back to nobody"),
            pytest.param(("two", 2), ("two", 1), TWO, False, id="back with the same keys"),
            pytest.param(("one", 1), ("two", 1), TWO, False, id="the same with other keys"),
            pytest.param(("one", 1), ("two", None), TWO, False, id="left out: the latest counts"),
            pytest.param(("one", None), ("two", None), TWO, False, id="never there"),
            pytest.param(("one", None), ("two", 0), TWO, False, id="new"),
            pytest.param(("one", 2), ("none", 3), NOBODY, False, id="revoked"),
        ],
    )
    def test_table(self, first, then, in_force, is_error):
        """A sequence never goes back to other keys; everything else that is fetched counts."""
        kept = after(bundle(*first), bundle(*then))
        assert kept.bundle == in_force
        assert (kept.error is not None) is is_error

    def test_is_remembered(self):
        """A number that was left out once still bounds the later ones."""
        kept = after(bundle("one", 5), bundle("two", None), bundle("one", 4))
        assert kept.bundle == TWO
        assert kept.error == "expected a sequence of 5 or more, got 4"

    def test_same_keys_do_not_lower_it(self):
        """The same keys under a smaller number confirm them and no more."""
        kept = after(bundle("one", 5), bundle("one", 2), bundle("two", 3))
        assert kept.bundle == ONE
        assert kept.sequence == 5

    def test_number_alone(self):
        """A new number or hint with the same keys is the same content: nobody has to reconnect."""
        first = after(bundle("one", 1))
        kept = first.after(replace(bundle("one", 2), refresh_hint=9), now=NOW + timedelta(hours=1))
        assert kept.bundle is first.bundle
        assert kept.changed_at == first.changed_at
        assert (kept.sequence, kept.refresh_hint) == (2, 9)


class TestAge:
    LIMIT = 3600

    def test_failure(self):
        """A failure keeps the last good bundle, until it is too old."""
        kept = after(bundle("one", 1), "no answer")
        assert kept.error == "no answer"
        assert kept.in_force(NOW + timedelta(seconds=3600), self.LIMIT) == ONE
        assert kept.in_force(NOW + timedelta(seconds=3601), self.LIMIT) == NOBODY

    def test_without_failure(self):
        """The age counts too when nobody tried: a fetcher that died keeps no trust alive."""
        kept = after(bundle("one", 1))
        assert kept.in_force(NOW + timedelta(seconds=3601), self.LIMIT) == NOBODY

    def test_recovery(self):
        """A later success is in force at once."""
        late = NOW + timedelta(days=3)
        kept = after(bundle("one", 1), "no answer").after(bundle("one", 1), now=late)
        assert kept.in_force(late, self.LIMIT) == ONE
        assert kept.error is None

    def test_sequence_error_does_not_refresh(self):
        """A document that went back confirms nothing."""
        kept = after(bundle("two", 2), bundle("one", 1))
        assert kept.good_at == NOW

    def test_never(self):
        """Before the first bundle there is none, however often it fails."""
        assert after("a", "b").in_force(NOW, self.LIMIT) is None

    def test_clock_set_back(self):
        """A clock that was set back does not lengthen the life of what is stale."""
        early = NOW - timedelta(days=1)
        kept = after(bundle("one", 1), "no answer").at(early)
        assert kept.in_force(early + timedelta(seconds=3601), self.LIMIT) == NOBODY

    def test_taken_away(self):
        """What is taken away is out at once, and comes back with any sequence."""
        kept = after(bundle("one", 5)).without("gone", now=NOW)
        assert kept.in_force(NOW, self.LIMIT) == NOBODY
        assert kept.without("gone", now=NOW + timedelta(hours=1)).changed_at == NOW
        assert kept.after(bundle("two", 1), now=NOW).bundle == TWO
