# SPDX-License-Identifier: Apache-2.0
"""The thread of somebody who follows files."""

from __future__ import annotations

import threading

import pytest

from kubetls_sdk._follower import Follower


@pytest.fixture
def follow():
    """Start a follower that looks often; it ends with the test."""
    started = []

    def start(look):
        follower = Follower("follower-of-the-test", look, poll_seconds=0.01)
        started.append(follower)
        return follower

    yield start
    for each in started:
        each.close()


class TestFollower:
    def test_outlives_mistakes(self, follow, tmp_path, caplog):
        """A look that raises is logged, and others come after it."""
        looks = threading.Semaphore(0)

        def look():
            looks.release()
            raise ValueError("a bug")

        follow(look).start([str(tmp_path)])
        assert all(looks.acquire(timeout=10) for _ in range(3))
        assert "follower-of-the-test: looking at" in caplog.text

    def test_is_new_once(self, follow, tmp_path):
        """It is new until it is started or told to stop."""
        follower = follow(lambda: None)
        assert follower.is_new
        follower.start([str(tmp_path)])
        assert not follower.is_new
        stopped = follow(lambda: None)
        stopped.stop.set()
        assert not stopped.is_new

    def test_close(self, follow, tmp_path):
        """Its end is waited for; nobody looks after that."""
        looks = []
        follower = follow(lambda: looks.append(None))
        follower.start([str(tmp_path)])
        follower.close()
        count = len(looks)
        assert not follower.is_alive
        follower.close()
        assert len(looks) == count

    def test_closed_by_its_own_look(self, follow, tmp_path):
        """What it calls may close it: nobody waits for itself."""
        closed = threading.Event()

        def look():
            follower.close()
            closed.set()

        follower = follow(look)
        follower.start([str(tmp_path)])
        assert closed.wait(10)
