# SPDX-License-Identifier: Apache-2.0
"""Times of certificates, by the API server's rules for every lifetime and every moment."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.webhook.issuance.samples import NOW
from webhook.exceptions import IssuanceError
from webhook.issuance.validity import Validity, refresh_time, serial_fraction

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
SHORTEST, LONGEST = 3600, 7_862_400

MOMENTS = st.datetimes(
    datetime(2026, 1, 1),  # noqa: DTZ001 - hypothesis wants naive bounds
    datetime(2049, 12, 31),  # noqa: DTZ001
    timezones=st.just(UTC),
)
LIFETIMES = st.integers(SHORTEST, LONGEST)
FRACTIONS = st.floats(0, 1)


def authority(*, not_before=NOW - HOUR, not_after=NOW + timedelta(days=3650)):
    """All that is asked of an authority here."""
    return SimpleNamespace(
        name="aa",
        not_before=not_before.replace(microsecond=0),
        not_after=not_after.replace(microsecond=0),
    )


def check_api_rules(validity, refresh, *, now, limit):
    """What the API server checks of a status, from the strictest clock within its tolerance."""
    for each in (*validity, refresh):
        assert each.tzinfo is UTC
        assert each.microsecond == 0
    assert timedelta(0) <= now - validity.not_before < 5 * MINUTE
    assert HOUR <= validity.not_after - validity.not_before <= limit
    assert validity.not_before + 10 * MINUTE <= refresh <= validity.not_after - 10 * MINUTE


class TestWithin:
    def test_a_day(self):
        """Dated back by two minutes, cut to whole seconds, as long as was granted."""
        found = Validity.within(authority(), timedelta(days=1), now=NOW)
        assert found.not_before == datetime(2026, 11, 25, 12, 28, 15, tzinfo=UTC)
        assert found.not_after == datetime(2026, 11, 26, 12, 28, 15, tzinfo=UTC)

    @given(MOMENTS, LIFETIMES, FRACTIONS, st.booleans())
    @example(datetime(2028, 2, 29, 0, 0, 0, 1, tzinfo=UTC), SHORTEST, 0.0, False)
    @example(datetime(2028, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC), SHORTEST, 1.0, False)
    @example(datetime(2027, 1, 1, tzinfo=UTC), LONGEST, 1.0, True)
    def test_every_lifetime_at_every_moment(self, now, seconds, fraction, is_early):
        """Whatever the lifetime, and whichever fraction of a second it is, the API takes it."""
        long = authority(not_before=now - HOUR, not_after=now + timedelta(days=400))
        limit = timedelta(seconds=seconds)
        validity = Validity.within(long, limit, now=now)
        refresh = refresh_time(validity, fraction=fraction, early=is_early)
        check_api_rules(validity, refresh, now=now, limit=limit)
        assert validity.not_after - validity.not_before == limit

    def test_lifetimes_at_the_edge(self):
        """Every lifetime near the shortest or longest has a refresh point that the API takes."""
        for seconds in (*range(SHORTEST, SHORTEST + 1000), *range(LONGEST - 100, LONGEST + 1)):
            limit = timedelta(seconds=seconds)
            validity = Validity.within(authority(), limit, now=NOW)
            for fraction in (0.0, 0.25, 0.5, 0.999, 1.0):
                refresh = refresh_time(validity, fraction=fraction)
                check_api_rules(validity, refresh, now=NOW, limit=limit)

    @given(MOMENTS, LIFETIMES, st.integers(-7200, 8_000_000), FRACTIONS)
    def test_an_authority_that_ends(self, now, seconds, left, fraction):
        """Nothing is valid longer than its authority; too little is left for nobody."""
        ending = authority(
            not_before=now - timedelta(days=1), not_after=now + timedelta(seconds=left)
        )
        limit = timedelta(seconds=seconds)
        if ending.not_after - (now - 2 * MINUTE).replace(microsecond=0) < HOUR:
            with pytest.raises(IssuanceError) as caught:
                Validity.within(ending, limit, now=now)
            assert caught.value.is_retryable
            assert caught.value.reason == "AuthorityExpiring"
            return
        validity = Validity.within(ending, limit, now=now)
        refresh = refresh_time(validity, fraction=fraction)
        check_api_rules(validity, refresh, now=now, limit=limit)
        assert validity.not_after <= ending.not_after

    def test_the_last_certificate_of_an_authority(self):
        """An hour before its end, counted as the API counts, it signs; a second later it waits."""
        end = NOW.replace(microsecond=0) + HOUR - 2 * MINUTE
        found = Validity.within(authority(not_after=end), timedelta(days=1), now=NOW)
        assert found.not_after == end
        with pytest.raises(IssuanceError, match="replace it NOW") as caught:
            Validity.within(authority(not_after=end - SECOND), timedelta(days=1), now=NOW)
        assert caught.value.is_retryable

    @pytest.mark.parametrize("left", [-timedelta(days=30), -SECOND, timedelta(0), SECOND])
    def test_an_expired_authority(self, left):
        """It leaves requests pending and says so; it never refuses one."""
        with pytest.raises(IssuanceError, match="authority aa ends at ") as caught:
            Validity.within(authority(not_after=NOW + left), timedelta(days=1), now=NOW)
        assert caught.value.is_retryable

    def test_an_authority_of_the_future(self):
        """It waits."""
        with pytest.raises(IssuanceError, match="is not valid before") as caught:
            Validity.within(authority(not_before=NOW + MINUTE), timedelta(days=1), now=NOW)
        assert caught.value.is_retryable
        assert caught.value.reason == "AuthorityNotYetValid"


class TestRefreshTime:
    DAY = Validity(NOW.replace(microsecond=0), NOW.replace(microsecond=0) + timedelta(days=1))

    @pytest.mark.parametrize(
        ("fraction", "share"), [(0.0, 0.4), (0.25, 0.45), (0.5, 0.5), (0.75, 0.55), (1.0, 0.6)]
    )
    def test_half_of_the_lifetime(self, fraction, share):
        """Holders are spread about the half of the lifetime, a tenth to either side."""
        found = refresh_time(self.DAY, fraction=fraction)
        assert abs(found - self.DAY.not_before - share * timedelta(days=1)) <= SECOND

    def test_early(self):
        """A holder that shall come soon comes at the first moment that the API allows."""
        found = refresh_time(self.DAY, fraction=0.7, early=True)
        assert found == self.DAY.not_before + 10 * MINUTE

    def test_the_shortest_lifetime(self):
        """Within an hour there is room for all of the spread."""
        hour = Validity(self.DAY.not_before, self.DAY.not_before + HOUR)
        assert refresh_time(hour, fraction=0.0) == hour.not_before + 24 * MINUTE
        assert refresh_time(hour, fraction=1.0) == hour.not_before + 36 * MINUTE


class TestSerialFraction:
    @given(st.integers(1, (1 << 159) - 1))
    def test_bounds(self, serial):
        """It is a share, and the same for the same serial number."""
        assert 0 <= serial_fraction(serial) <= 1

    def test_spread(self):
        """Serial numbers that differ in their low bits spread over the whole of it."""
        step = (1 << 32) // 10
        found = sorted(serial_fraction(number * step) for number in range(10))
        assert all(abs(each - number / 10) < 0.01 for number, each in enumerate(found))
