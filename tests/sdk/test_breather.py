# SPDX-License-Identifier: Apache-2.0
"""Long computations in a thread leave the process responsive."""

from __future__ import annotations

import gc

import pytest

from kubetls_sdk._breather import Breather


def breathe(count: int = 64) -> list[list[int]]:
    """Make long-lived objects with a pause after each."""
    pause, made = Breather(), []
    for number in range(count):
        made.append([number])
        pause()
    return made


@pytest.fixture
def collector():
    """Leaves the collector as it was."""
    was_enabled = gc.isenabled()
    gc.enable()
    yield
    gc.unfreeze()
    (gc.enable if was_enabled else gc.disable)()


@pytest.mark.usefixtures("collector")
class TestBreather:
    def test_new_objects_are_old_at_once(self):
        """What was made before the last breath is in the oldest generation, uncollected."""
        before = gc.get_stats()[2]["collections"]
        made = breathe()
        assert gc.get_stats()[2]["collections"] == before
        old = {id(each) for each in gc.get_objects(generation=2)}
        assert {id(each) for each in made[:-16]} <= old

    def test_nothing_stays_frozen(self):
        """The collector still finds cycles that were made meanwhile."""
        breathe()
        assert gc.get_freeze_count() == 0

    def test_what_others_froze_stays_frozen(self):
        """A server that freezes before it forks keeps its pages shared."""
        gc.freeze()
        frozen = gc.get_freeze_count()
        breathe()
        assert gc.get_freeze_count() > 0.99 * frozen  # some of them may be freed by counting
        assert frozen > 1000

    @pytest.mark.parametrize("enabled", [True, False])
    def test_the_collector_stays_as_it_was(self, enabled):
        """An application that disabled it keeps it disabled."""
        (gc.enable if enabled else gc.disable)()
        breathe()
        assert gc.isenabled() is enabled
