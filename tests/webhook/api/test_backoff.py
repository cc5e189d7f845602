# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from webhook.api.backoff import Backoff


class TestBackoff:
    def test_the_ceiling_doubles_up_to_the_maximum(self):
        """The draw decides within the ceiling, from nothing to all of it."""
        backoff = Backoff(initial=1, maximum=10, draw=lambda: 1.0)
        assert [backoff.delay() for _ in range(6)] == [1, 2, 4, 8, 10, 10]

    def test_jitter_is_full(self):
        """Two clients that failed together do not come back together."""
        assert Backoff(draw=lambda: 0.0).delay() == 0

    def test_what_the_server_asks_for_is_kept(self):
        """The jitter comes on top, so that those who were told the same spread."""
        assert Backoff(initial=1, draw=lambda: 0.5).delay(at_least=7) == 7.5

    def test_a_success_starts_anew(self):
        """Old failures do not slow down the next recovery."""
        backoff = Backoff(initial=1, draw=lambda: 1.0)
        backoff.delay()
        backoff.reset()
        assert (backoff.delay(), backoff.failures) == (1, 1)

    def test_years_of_failures_do_not_overflow(self):
        """The exponent is bounded."""
        backoff = Backoff(maximum=5, draw=lambda: 1.0)
        assert {backoff.delay() for _ in range(5000)} >= {5}
