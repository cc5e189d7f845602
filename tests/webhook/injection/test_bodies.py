# SPDX-License-Identifier: Apache-2.0
"""How many bytes of bodies are taken at once."""

from contextlib import ExitStack

import pytest

from webhook.exceptions import ReviewError
from webhook.injection.bodies import SMALL_BYTES, Bodies
from webhook.injection.review import MAX_BYTES

LARGE = bytes(1024 * 1024)


@pytest.fixture
def others():
    """Four large bodies that are on their way, which is all that there is room for."""
    bodies = Bodies(4 * len(LARGE))
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(bodies.arriving())(LARGE)
        yield bodies


class TestOne:
    def test_largest(self):
        """A body of the largest size is taken, in parts."""
        with Bodies(MAX_BYTES).arriving() as take:
            for _ in range(3):
                take(LARGE)
            with pytest.raises(ReviewError) as caught:
                take(b"x")
        assert caught.value.status == 413


class TestAll:
    def test_large_one(self, others):
        """Beyond the bound a large one is refused as soon as it is one."""
        with others.arriving() as take:
            take(bytes(SMALL_BYTES))
            with pytest.raises(ReviewError, match="at once") as caught:
                take(b"x")
        assert caught.value.status == 503

    def test_small_one(self, others):
        """The review of a usual pod is taken whatever strangers send."""
        with others.arriving() as take:
            take(bytes(SMALL_BYTES))

    @pytest.mark.parametrize("error", [None, ReviewError("no"), TimeoutError()])
    def test_room_again(self, error):
        """A body that is read, refused or given up leaves its room to others."""
        bodies = Bodies(len(LARGE))
        try:
            with bodies.arriving() as take:
                take(LARGE)
                if error is not None:
                    raise error
        except (ReviewError, TimeoutError):
            pass
        with bodies.arriving() as take:
            take(LARGE)
