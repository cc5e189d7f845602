# SPDX-License-Identifier: Apache-2.0
"""The connections of a listener that anybody may open: not more than so many.

Rules:
    1. Beyond the limit the oldest goes: of those that never asked, else of those that wait for
       nothing, else of all. Whoever opens connections cannot lock the API server out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ("Crowd",)


class Crowd:
    """The connections, in the order of their arrival.

    Args:
        limit: How many at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entered: dict[Any, None] = {}

    def enter(self, protocol: Any, living: Collection[Any]) -> None:
        """Take a connection in, and end another one when there are too many.

        Args:
            protocol: uvicorn's, new.
            living: The protocols that uvicorn has.
        """
        if len(self._entered) >= self._limit:
            self._entered = {each: None for each in self._entered if each in living}
            if len(self._entered) >= self._limit:
                leaving = min(self._entered, key=_worth)
                del self._entered[leaving]
                leaving.transport.abort()
        self._entered[protocol] = None


def _worth(protocol: Any) -> int:
    cycle = protocol.cycle
    if cycle is None:
        return 0
    return 1 if cycle.response_complete else 2
