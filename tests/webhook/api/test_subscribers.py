# SPDX-License-Identifier: Apache-2.0
"""Who is told of changes."""

from __future__ import annotations

import pytest

from webhook.api.subscribers import Subscribers


@pytest.fixture
def failures():
    return []


@pytest.fixture
def subscribers(failures):
    return Subscribers[[int]](lambda: failures.append("failed"))


class TestTell:
    def test_in_order(self, subscribers):
        """All hear of it, the first one first."""
        heard = []
        subscribers.add(lambda news: heard.append(("one", news)))
        subscribers.add(lambda news: heard.append(("two", news)))
        subscribers.tell(7)
        assert heard == [("one", 7), ("two", 7)]

    def test_mistake(self, subscribers, failures):
        """One that raises is told of, and keeps no other from hearing."""
        heard = []
        subscribers.add(lambda news: 1 // 0)
        subscribers.add(heard.append)
        subscribers.tell(7)
        assert heard == [7]
        assert failures == ["failed"]

    def test_added_meanwhile(self, subscribers):
        """Who subscribes while others are told hears of the next change."""
        heard = []
        subscribers.add(lambda news: subscribers.add(heard.append) if news == 1 else None)
        subscribers.tell(1)
        subscribers.tell(2)
        assert heard == [2]


class TestAdd:
    def test_removed(self, subscribers):
        """Each subscription ends by itself, and may be ended twice; an equal one goes on."""
        heard = []
        remove = subscribers.add(heard.append)
        subscribers.add(heard.append)
        remove()
        remove()
        subscribers.tell(7)
        assert heard == [7]
