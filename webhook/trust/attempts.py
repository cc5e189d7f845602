# SPDX-License-Identifier: Apache-2.0
"""The tasks of a leader, tried again and again: one that fails stops no other one.

Rules:
    1. A failure is logged when it appears, when it changes, and when it ends.
    2. A mistake of ours is logged with its traceback, and stops the others as little.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kubetls_sdk.exceptions import KubeTLSError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Container

__all__ = ("Attempts",)

_log = logging.getLogger(__name__)


class Attempts:
    """Tasks by name, such as `clock` or `zone payments`, and which of them fail now."""

    def __init__(self) -> None:
        self._failures: dict[str, str] = {}

    def __len__(self) -> int:
        """How many fail."""
        return len(self._failures)

    def is_failing(self, task: str) -> bool:
        """Whether its last attempt failed."""
        return task in self._failures

    async def make(self, task: str, work: Awaitable[None]) -> None:
        """Do the work; raises nothing."""
        try:
            await work
        except KubeTLSError as err:
            self._fail(task, err)
        except Exception as err:  # noqa: BLE001 - one zone's fault must not stop the others
            self._fail(task, err, is_ours=True)
        else:
            if self._failures.pop(task, None) is not None:
                _log.info("%s: all is well again", task)

    def retain(self, kind: str, names: Container[str]) -> None:
        """Forget tasks of a kind, such as `zone`, that stand for none of these."""
        for task in tuple(self._failures):
            if task.startswith(f"{kind} ") and task.removeprefix(f"{kind} ") not in names:
                del self._failures[task]

    def _fail(self, task: str, err: Exception, *, is_ours: bool = False) -> None:
        if self._failures.get(task) != str(err):
            _log.error("%s: %s", task, err, exc_info=is_ours)
        self._failures[task] = str(err)
