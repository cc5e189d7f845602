# SPDX-License-Identifier: Apache-2.0
"""Blocking work in a thread, which is never left behind.

Rules:
    1. Who waits and is cancelled, waits for the end of what runs: work on the same volume that
       comes next, such as its removal, never meets it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("run_errand",)

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def run_errand(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call something that blocks in a thread, and return what it returns or raise what it raises.

    Args:
        work: What blocks, such as a method of `VolumeStore`.
        args: Its positional arguments.
        kwargs: Its other arguments.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        await _end_of(task)
        raise
    return task.result()


async def _end_of(task: asyncio.Future[_T]) -> None:
    """Wait for a task however often we are cancelled; its failure is of no interest any more."""
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            continue
    task.exception()
