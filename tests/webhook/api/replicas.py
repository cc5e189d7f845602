# SPDX-License-Identifier: Apache-2.0
"""Replicas in scenarios: their ways to the API server, and a journal of who worked when."""

from __future__ import annotations

import asyncio

from tests.webhook.api.fake_time import clock
from webhook.api import ApiError


class Cable:
    """One candidate's way to the API server, which can be cut."""

    def __init__(self, double):
        self._double = double
        self.is_cut = False
        self.hangs = False

    def __getattr__(self, name):
        async def call(*arguments, **named):
            if self.hangs:
                await asyncio.sleep(3600)
            if self.is_cut:
                await asyncio.sleep(0.1)
                raise ApiError("the cable is cut")
            return await getattr(self._double, name)(*arguments, **named)

        return call


class Journal:
    """Who worked when; nobody may while another does."""

    def __init__(self):
        self.entries = []
        self.working = set()

    def work(self, name, *, slow_end=0.0):
        async def callback():
            assert not self.working, f"{name} began while {self.working} worked"
            self.working.add(name)
            self.entries.append((name, "began", clock()))
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(slow_end)
                self.working.discard(name)
                self.entries.append((name, "ended", clock()))

        return callback

    def time_of(self, name, what):
        return next(entry[2] for entry in self.entries if entry[:2] == (name, what))


async def stop(*tasks):
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
