# SPDX-License-Identifier: Apache-2.0
"""Informers by key, of which some come and others go while the process runs.

Rules:
    1. `follow` opens what is new and closes what is gone; what is followed goes on undisturbed.
    2. What is said of the group is said of all of its informers.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Self

    from webhook.api.informer import Informer

__all__ = ("InformerGroup",)

K = TypeVar("K")
T = TypeVar("T")


class InformerGroup(Generic[K, T]):
    """The informers of the keys that are followed.

    Args:
        make: From a key to its informer, with its subscribers, not yet started.
        order: By which new ones are opened.
    """

    def __init__(
        self, make: Callable[[K], Informer[T]], *, order: Callable[[K], Any] | None = None
    ) -> None:
        self._make = make
        self._order = order
        self._running: dict[K, tuple[Informer[T], AsyncExitStack]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.follow(())

    async def follow(self, keys: Iterable[K]) -> frozenset[K]:
        """Follow exactly these, and return those that were given up; `synced` waits."""
        wanted = set(keys)
        gone = frozenset(self._running.keys() - wanted)
        for key in gone:
            await self._running.pop(key)[1].aclose()
        for key in sorted(wanted - self._running.keys(), key=self._order):  # type: ignore[type-var,arg-type]
            stack = AsyncExitStack()
            informer = await stack.enter_async_context(self._make(key))
            self._running[key] = (informer, stack)
        return gone

    def informer(self, key: K) -> Informer[T] | None:
        """The informer of a key that is followed."""
        found = self._running.get(key)
        return found[0] if found else None

    def informers(self) -> tuple[Informer[T], ...]:
        """All of them."""
        return tuple(informer for informer, _ in self._running.values())

    async def synced(self) -> None:
        """Wait until each was listed once."""
        await asyncio.gather(*(informer.synced() for informer in self.informers()))

    @property
    def is_synced(self) -> bool:
        """Whether each was listed once."""
        return all(informer.is_synced for informer in self.informers())

    @property
    def has_failed(self) -> bool:
        """Whether one has ended by a mistake of ours."""
        return any(informer.has_failed for informer in self.informers())

    def is_stale(self, seconds: float) -> bool:
        """Whether one has been broken for this long."""
        return any(informer.is_stale(seconds) for informer in self.informers())
