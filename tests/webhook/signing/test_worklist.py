# SPDX-License-Identifier: Apache-2.0
"""The order in which work is done, how much of it at once, and when it is tried again."""

from __future__ import annotations

import asyncio

import pytest

from tests.waiting import eventually
from webhook.api.backoff import Backoff
from webhook.signing.worklist import Again, Lane, Worklist

pytestmark = pytest.mark.anyio


def soon():
    return Backoff(initial=0.001, maximum=0.002)


def never():
    return Backoff(initial=1000, maximum=1000, draw=lambda: 1.0)


class Work:
    """Notes what it is given, in order; waits at `gate` where a test closed it."""

    def __init__(self):
        self.done = []
        self.under_way = 0
        self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures = {}

    async def __call__(self, key, attempt):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.gate.wait()
        await asyncio.sleep(0)
        self.under_way -= 1
        if attempt < self.failures.get(key, 0):
            raise Again("not yet")
        self.done.append(key)


@pytest.fixture
async def work(anyio_backend):
    return Work()


class TestOrder:
    async def test_burst_does_not_starve_renewals(self, work):
        """Renewals that come after a thousand new requests are done in turn with them."""
        work.gate.clear()
        worklist = Worklist(work, limit=1)
        for number in range(1000):
            worklist.add(f"new-{number}")
        for number in range(10):
            worklist.add(f"renewal-{number}", lane=Lane.RENEWAL)
        work.gate.set()
        await eventually(lambda: len(worklist) == 0)
        assert max(work.done.index(f"renewal-{number}") for number in range(10)) < 25

    async def test_renewals_do_not_starve_new_requests(self, work):
        """New requests that come after a thousand renewals are done in turn with them."""
        work.gate.clear()
        worklist = Worklist(work, limit=1)
        for number in range(1000):
            worklist.add(f"renewal-{number}", lane=Lane.RENEWAL)
        for number in range(10):
            worklist.add(f"new-{number}")
        work.gate.set()
        await eventually(lambda: len(worklist) == 0)
        assert max(work.done.index(f"new-{number}") for number in range(10)) < 25

    async def test_renewals_by_deadline(self, work):
        """Of two renewals, the one that expires first is done first."""
        work.gate.clear()
        worklist = Worklist(work, limit=1)
        worklist.add("first")
        for name, deadline in (("late", 300.0), ("soon", 100.0), ("middle", 200.0)):
            worklist.add(name, lane=Lane.RENEWAL, deadline=deadline)
        work.gate.set()
        await eventually(lambda: len(worklist) == 0)
        assert work.done == ["first", "soon", "middle", "late"]

    @pytest.mark.parametrize("lane", list(Lane))
    async def test_flood_is_in_its_own_way(self, work, lane):
        """What one owner has on the list in great number holds nobody else up."""
        work.gate.clear()
        worklist = Worklist(work, limit=1)
        for number in range(1000):
            worklist.add(f"flood-{number}", lane=lane, deadline=1.0, owner="flood")
        work.gate.set()
        await eventually(lambda: len(work.done) > 100)
        done = len(work.done)
        for number in range(10):
            worklist.add(f"other-{number}", lane=lane, deadline=2.0, owner=f"other-{number}")
        worklist.add("second", lane=lane, deadline=2.0, owner="other-0")
        await eventually(lambda: len(worklist) == 0)
        assert max(work.done.index(f"other-{number}") for number in range(10)) < done + 13
        assert work.done.index("second") < done + 16
        assert worklist._following == {}

    async def test_owners_that_are_forgotten(self, work):
        """Of an owner whose keys are forgotten before their turn, nothing is remembered."""
        work.gate.clear()
        worklist = Worklist(work, limit=1)
        for number in range(10):
            worklist.add(f"key-{number}", owner=f"owner-{number}")
        for number in range(1, 10):
            worklist.forget(f"key-{number}")
        work.gate.set()
        await eventually(lambda: len(worklist) == 0 and not worklist._tasks)
        assert (work.done, worklist._following) == (["key-0"], {})

    async def test_key_is_done_once(self, work):
        """A key that is added while it waits, or is under way, is done once."""
        work.gate.clear()
        worklist = Worklist(work, limit=1)
        for _ in range(3):
            worklist.add("first")
            worklist.add("second")
        work.gate.set()
        await eventually(lambda: len(worklist) == 0)
        assert work.done == ["first", "second"]

    async def test_limit(self, work):
        """No more than the limit are under way at once."""
        worklist = Worklist(work, limit=4)
        for number in range(100):
            worklist.add(number)
        await eventually(lambda: len(worklist) == 0)
        assert (work.most, len(work.done)) == (4, 100)


class TestFailure:
    async def test_tried_until_done(self, work):
        """Work that cannot be done yet is tried again until it is."""
        work.failures = {"key": 5}
        worklist = Worklist(work, backoff=soon)
        worklist.add("key")
        await eventually(lambda: work.done == ["key"])
        assert len(worklist) == 0

    async def test_failure_makes_room(self, work):
        """Work that waits for its next attempt keeps nothing else from being done."""
        work.failures = {"stuck": 1}
        worklist = Worklist(work, limit=1, backoff=never)
        worklist.add("stuck")
        worklist.add("other")
        await eventually(lambda: work.done == ["other"])
        await worklist.close(within=1)

    async def test_hurry(self, work):
        """What was waited for ends the back-off at once."""
        work.failures = {"key": 1}
        worklist = Worklist(work, backoff=never)
        worklist.add("key")
        await eventually(lambda: worklist._entries["key"].timer)
        worklist.hurry("key")
        await eventually(lambda: work.done == ["key"])

    async def test_hurry_all(self, work):
        """What many waited for ends all back-offs at once."""
        keys = [f"key-{number}" for number in range(10)]
        work.failures = dict.fromkeys(keys, 1)
        worklist = Worklist(work, backoff=never)
        for key in keys:
            worklist.add(key)
        await eventually(lambda: all(each.timer for each in worklist._entries.values()))
        worklist.hurry_all()
        await eventually(lambda: sorted(work.done) == keys)

    async def test_forgotten(self, work):
        """What is forgotten is not tried again."""
        work.failures = {"key": 1}
        worklist = Worklist(work, backoff=never)
        worklist.add("key")
        await eventually(lambda: worklist._entries["key"].timer)
        worklist.forget("key")
        assert len(worklist) == 0

    async def test_mistake_of_ours(self, caplog):
        """An exception that nobody foresaw is logged, and the work is tried again."""
        attempts = []

        async def work(key, attempt):
            attempts.append(attempt)
            if attempt == 0:
                raise ZeroDivisionError

        worklist = Worklist(work, backoff=soon)
        worklist.add("key")
        await eventually(lambda: len(worklist) == 0)
        assert attempts == [0, 1]
        assert "unexpected failure" in caplog.text


class TestClose:
    async def test_what_hangs_is_cancelled(self, work):
        """What does not finish in time is cancelled, and nothing more is begun."""
        work.gate.clear()
        worklist = Worklist(work, limit=1)
        worklist.add("hangs")
        worklist.add("never")
        await worklist.close(within=0.01)
        worklist.add("too late")
        assert work.done == []
        assert not worklist._tasks
