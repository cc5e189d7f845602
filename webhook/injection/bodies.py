# SPDX-License-Identifier: Apache-2.0
"""The bodies of requests while they arrive: bounded each, and all together.

Rules:
    1. Strangers may send as many large bodies as they like: beyond the bound of all, only small
       ones are taken. A review of a usual pod is a small one.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from webhook.exceptions import ReviewError
from webhook.injection.review import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ("SMALL_BYTES", "Bodies")

SMALL_BYTES: Final = 64 * 1024


class Bodies:
    """What of all bodies is in memory.

    Args:
        limit: Bytes of all together, small ones apart.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._total = 0

    @contextmanager
    def arriving(self) -> Iterator[Callable[[bytes], None]]:
        """Count one body until the block is left: call what this gives with each part.

        Raises:
            ReviewError: The body is too large, 413; or all together are, 503.
        """
        size = 0

        def take(part: bytes) -> None:
            nonlocal size
            size += len(part)
            self._total += len(part)
            if size > MAX_BYTES:
                raise ReviewError(f"expected at most {MAX_BYTES} bytes", status=413)
            if size > SMALL_BYTES and self._total > self._limit:
                raise ReviewError("too many large requests at once", status=503)

        try:
            yield take
        finally:
            self._total -= size
