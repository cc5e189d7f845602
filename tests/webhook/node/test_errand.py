# SPDX-License-Identifier: Apache-2.0
"""Blocking work is never left behind."""

from __future__ import annotations

import asyncio
import threading

import pytest

from webhook.node.errand import run_errand


class TestRunErrand:
    def test_gives_what_the_work_gives(self) -> None:
        """Its result is returned, its error raised."""
        assert asyncio.run(run_errand(divmod, 7, 2)) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            asyncio.run(run_errand(divmod, 7, 0))

    def test_cancelled_waits_for_the_end(self) -> None:
        """Whoever is cancelled, even twice, goes on only when the work has ended."""
        begun, allowed, ended = threading.Event(), threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            allowed.wait(10)
            ended.set()
            raise OSError("of no interest any more")

        async def scenario() -> None:
            task = asyncio.create_task(run_errand(work))
            await asyncio.to_thread(begun.wait, 10)
            for _ in range(2):
                task.cancel()
                await asyncio.wait({task}, timeout=0.02)
                assert not task.done()
            allowed.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert ended.is_set()

        asyncio.run(scenario())
