# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.webhook.api_double import ApiDouble
from webhook.api import AlreadyExistsError, ConflictError
from webhook.api.lease import Lease, Sighting, micro_time, parse_time, renewed_spec
from webhook.api.resources import LEASES

NOW = datetime(2026, 11, 25, 12, 0, 0, 5, tzinfo=UTC)


class TestRenewedSpec:
    def test_a_renewal_keeps_when_it_was_taken(self):
        """Only the time of the renewal moves."""
        taken = {"spec": renewed_spec(None, "a", seconds=15, now=NOW)}
        spec = renewed_spec(taken, "a", seconds=15, now=NOW + timedelta(seconds=2))
        assert (micro_time(NOW), 1) == (spec["acquireTime"], spec["leaseTransitions"])
        assert spec["renewTime"] > spec["acquireTime"]

    def test_another_holder_is_a_transition(self):
        """It is counted."""
        taken = {"spec": renewed_spec(None, "a", seconds=15, now=NOW)}
        spec = renewed_spec(taken, "b", seconds=15, now=NOW)
        assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("b", 2)

    def test_giving_it_back_is_none(self):
        """The next holder is."""
        taken = {"spec": renewed_spec(None, "a", seconds=15, now=NOW)}
        spec = renewed_spec(taken, "", seconds=1, now=NOW)
        assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("", 1)

    @pytest.mark.parametrize("seconds", [0, 0.2, 1])
    def test_the_duration_is_at_least_a_second(self, seconds):
        """The API refuses less."""
        assert renewed_spec(None, "a", seconds=seconds, now=NOW)["leaseDurationSeconds"] == 1


class TestTimes:
    def test_a_micro_time_is_utc_with_six_digits(self):
        """As the API writes it."""
        local = NOW.astimezone(timezone(timedelta(hours=2)))
        assert micro_time(local) == "2026-11-25T12:00:00.000005Z"

    def test_what_was_written_is_read(self):
        """Both ways."""
        assert parse_time(micro_time(NOW)) == NOW

    @pytest.mark.parametrize("text", [None, "", "now", "2026-11-25T12:00:00", 7])
    def test_what_is_no_time_is_none(self, text):
        """One without a zone is none either."""
        assert parse_time(text) is None


class TestSighting:
    def test_an_unchanged_lease_was_seen_when_it_was_first_seen(self):
        """Looking again does not make it younger."""
        lease = {"metadata": {"resourceVersion": "1"}}
        first = Sighting.of(lease, None, 10.0)
        assert Sighting.of(lease, first, 99.0) is first

    def test_a_changed_one_was_seen_now(self):
        """Whatever its own times say."""
        first = Sighting("1", 10.0)
        assert Sighting.of({"metadata": {"resourceVersion": "2"}}, first, 99.0).since == 99.0


@pytest.mark.anyio
class TestLease:
    async def test_what_others_wrote_on_it_stays(self):
        """Labels, annotations and owners are theirs."""
        double = ApiDouble()
        notes = {"annotations": {"a": "b"}, "labels": {"c": "d"}}
        double.put(LEASES, {"metadata": {"name": "l", "namespace": "s", **notes}})
        lease = Lease(double, "s", "l", labels={"ours": "1"})
        await lease.read()
        await lease.write("me", seconds=15)
        metadata = double.find(LEASES, "l", "s")["metadata"]
        assert metadata["annotations"] == {"a": "b"}
        assert metadata["labels"] == {"c": "d", "ours": "1"}

    async def test_each_write_compares(self):
        """One that came in between is never overwritten."""
        double = ApiDouble()
        ours, theirs = Lease(double, "s", "l"), Lease(double, "s", "l")
        await ours.write("a", seconds=15)
        with pytest.raises(AlreadyExistsError):
            await theirs.write("b", seconds=15)
        await theirs.read()
        await theirs.write("b", seconds=15)
        with pytest.raises(ConflictError):
            await ours.write("a", seconds=15)
