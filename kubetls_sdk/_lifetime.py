# SPDX-License-Identifier: Apache-2.0
"""What is started and closed: by a `with` block, by an `async with` block, or by hand.

Rules:
    1. Leaving the block closes it, whatever happened inside.
    2. In an event loop nothing is waited for: a thread starts and closes it.
    3. A start that is cancelled leaves no thread behind that waits or follows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

__all__ = ("AsyncLifetime", "Lifetime")


class Lifetime(ABC):
    """A `with` context manager."""

    @abstractmethod
    def start(self) -> Self:
        """Begin; `with` does this."""

    @abstractmethod
    def close(self) -> None:
        """End; may be called twice."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.close()


class AsyncLifetime(Lifetime):
    """An `async with` context manager, too."""

    async def __aenter__(self) -> Self:
        import asyncio  # here, so that those who only read a volume do not load an event loop

        try:
            return await asyncio.to_thread(self.start)
        except BaseException:
            self._give_up()
            raise

    async def __aexit__(self, *_exception: object) -> None:
        import asyncio

        await asyncio.to_thread(self.close)

    @abstractmethod
    def _give_up(self) -> None:
        """Let a start that may be under way in another thread end; waits for nothing."""
