# SPDX-License-Identifier: Apache-2.0
"""Who goes when there are too many connections."""

from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from webhook.injection.crowd import Crowd


class Connection:
    def __init__(self, *, busy=False, asked=False):
        cycle = SimpleNamespace(response_complete=asked)
        self.cycle = cycle if busy or asked else None
        self.transport = Mock()

    @property
    def is_ended(self):
        return self.transport.abort.called


def ended(crowd, connections, living=None):
    for each in connections:
        crowd.enter(each, connections if living is None else living)
    return [number for number, each in enumerate(connections) if each.is_ended]


class TestEnter:
    def test_up_to_the_limit(self):
        """As many as the limit stay."""
        assert ended(Crowd(3), [Connection() for _ in range(3)]) == []

    def test_beyond_it(self):
        """For each one more, the oldest goes."""
        assert ended(Crowd(3), [Connection() for _ in range(5)]) == [0, 1]

    def test_one_that_is_answered(self):
        """A connection whose request is being answered stays before one that is idle."""
        connections = [Connection(busy=True), Connection(), Connection(), Connection()]
        assert ended(Crowd(3), connections) == [1]

    def test_all_are_answered(self):
        """When all are busy, the oldest goes: there is no way to stay for ever."""
        assert ended(Crowd(2), [Connection(busy=True) for _ in range(3)]) == [0]

    def test_an_answer_that_is_complete(self):
        """A connection that was answered stays before a silent one, not before a busy one."""
        connections = [Connection(busy=True), Connection(asked=True), Connection()]
        assert ended(Crowd(2), [*connections, Connection(busy=True)]) == [1, 2]

    @pytest.mark.parametrize("living", [0, 1])
    def test_those_that_are_gone(self, living):
        """Connections that ended by themselves make room."""
        connections = [Connection() for _ in range(3)]
        assert ended(Crowd(2), connections, connections[:living]) == []
