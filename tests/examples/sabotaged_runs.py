# SPDX-License-Identifier: Apache-2.0
"""Runs of one example, two at a time: the right one, and one for each sabotage of its servers."""

from __future__ import annotations

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pytest

__all__ = ("running",)

T = TypeVar("T")


@contextmanager
def running(
    run: Callable[..., T], sabotages: Iterable[str], folders: pytest.TempPathFactory
) -> Iterator[Callable[[str], T]]:
    """Start them all; yields the result of each, `right` or a sabotage, when it is asked for."""
    with ThreadPoolExecutor(2) as pool:
        started: dict[str, Future[T]] = {"right": pool.submit(run, folders.mktemp("right"))}
        for name in sabotages:
            command = f"{sys.executable} -m tests.examples.sabotage.{name}"
            started[name] = pool.submit(run, folders.mktemp(name), "--server-command", command)
        yield lambda name: started[name].result()
