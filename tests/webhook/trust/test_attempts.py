# SPDX-License-Identifier: Apache-2.0
"""The tasks of a leader, tried again and again."""

from __future__ import annotations

import logging

import pytest

from webhook.exceptions import WebhookError
from webhook.trust.attempts import Attempts

pytestmark = pytest.mark.anyio


async def fine():
    """Succeed."""


async def fail(message):
    """Fail as the world makes it."""
    raise WebhookError(message)


async def err():
    """Fail by a mistake of ours."""
    raise RuntimeError("ours")


class TestMake:
    async def test_failure(self):
        """A task that fails raises nothing, and is known to fail until it succeeds."""
        attempts = Attempts()
        await attempts.make("clock", fail("apart"))
        assert attempts.is_failing("clock")
        assert len(attempts) == 1
        await attempts.make("clock", fine())
        assert not attempts.is_failing("clock")
        assert len(attempts) == 0

    async def test_log(self, caplog):
        """A failure is logged when it appears, changes and ends, not at each try."""
        caplog.set_level(logging.INFO)
        attempts = Attempts()
        for work in (fail("apart"), fail("apart"), fail("far apart"), fine(), fine()):
            await attempts.make("clock", work)
        assert [record.getMessage() for record in caplog.records] == [
            "clock: apart",
            "clock: far apart",
            "clock: all is well again",
        ]

    async def test_mistake(self, caplog):
        """A mistake of ours is logged with its traceback."""
        attempts = Attempts()
        await attempts.make("zone shop", err())
        assert attempts.is_failing("zone shop")
        assert caplog.records[0].exc_info is not None


class TestRetain:
    async def test_gone(self):
        """Tasks of zones that are gone are forgotten; those of another kind stay."""
        attempts = Attempts()
        for task in ("zone shop", "zone gone", "partner gone", "clock"):
            await attempts.make(task, fail("bad"))
        attempts.retain("zone", {"shop"})
        tasks = ("zone shop", "zone gone", "partner gone", "clock")
        assert [attempts.is_failing(each) for each in tasks] == [True, False, True, True]
