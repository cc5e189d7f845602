# SPDX-License-Identifier: Apache-2.0
"""Tests with real mounts, each in a mount namespace that ends with it."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from webhook.node.folder_placement import FolderPlacement

if TYPE_CHECKING:
    from collections.abc import Callable

_NEW_MOUNTS = 0x00020000
_RECURSIVE_PRIVATE = 0x4000 | 0x40000
_libc = ctypes.CDLL(None, use_errno=True)


def in_mount_namespace(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a thread with mounts of its own; skip it where that is not allowed.

    A test that is `placed` in plain folders needs none, and runs everywhere. A thread's namespace
    is that of the threads and processes that it starts, and of no others.
    """

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        if kwargs.get("placed") is FolderPlacement:
            test(*args, **kwargs)
            return
        outcome: list[BaseException | None] = []
        thread = threading.Thread(
            target=_run, args=(functools.partial(test, *args, **kwargs), outcome)
        )
        thread.start()
        thread.join()
        if outcome[0] is not None:
            raise outcome[0]

    return run


def _run(test: Callable[[], None], outcome: list[BaseException | None]) -> None:
    try:
        _enter()
        test()
    except BaseException as error:  # noqa: BLE001 - raised again by whoever joins the thread
        outcome.append(error)
    else:
        outcome.append(None)


def _enter() -> None:
    if _libc.unshare(_NEW_MOUNTS) != 0:
        pytest.skip(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    if _libc.mount(b"none", b"/", None, ctypes.c_ulong(_RECURSIVE_PRIVATE), None) != 0:
        pytest.skip(f"no private mounts: {os.strerror(ctypes.get_errno())}")


def mount_table() -> str:
    """The mounts of this thread's namespace, as the kernel tells them."""
    with open("/proc/thread-self/mountinfo", encoding="utf-8") as table:
        return table.read()
