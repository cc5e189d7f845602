# SPDX-License-Identifier: Apache-2.0
"""Who is told of changes, on the event loop: one subscriber's mistake keeps no other from hearing.

The SDK's `kubetls_sdk.source.Subscribers` is for threads, and for snapshots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, ParamSpec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Subscribers",)

P = ParamSpec("P")


class Subscribers(Generic[P]):
    """The callbacks of one teller.

    Args:
        failed: Called when one has raised, while its exception is handled: to log it.
    """

    def __init__(self, failed: Callable[[], None]) -> None:
        self._failed = failed
        self._callbacks: dict[object, Callable[P, None]] = {}

    def add(self, callback: Callable[P, None]) -> Callable[[], None]:
        """Add a callback, and return the function that removes it again."""
        key = object()
        self._callbacks[key] = callback

        def remove() -> None:
            self._callbacks.pop(key, None)

        return remove

    def tell(self, *news: P.args, **more: P.kwargs) -> None:
        """Tell all, in the order in which they came."""
        for callback in tuple(self._callbacks.values()):
            self.tell_one(callback, *news, **more)

    def tell_one(self, callback: Callable[P, None], *news: P.args, **more: P.kwargs) -> None:
        """Tell a single one."""
        try:
            callback(*news, **more)
        except Exception:  # noqa: BLE001 - a mistake of theirs must not blind the others
            self._failed()
