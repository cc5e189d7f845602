# SPDX-License-Identifier: Apache-2.0
"""The audit log of a server, read while it is written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("Record", "Trail")

Record = dict[str, Any]


class Trail:
    """What a server has decided.

    Args:
        file: Given to it as `--audit-log`.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def mark(self) -> int:
        """Where it ends now."""
        return self._file.stat().st_size if self._file.exists() else 0

    def since(self, mark: int) -> list[Record]:
        """The complete records after a mark."""
        return _records(self._from(mark))

    def recent(self, size: int) -> list[Record]:
        """The complete records in the last bytes."""
        start = max(0, self.mark() - size)
        lines = self._from(start)
        return _records(lines if start == 0 else lines[1:])

    def _from(self, start: int) -> list[bytes]:
        if not self._file.exists():
            return []
        with self._file.open("rb") as log:
            log.seek(start)
            return log.read().splitlines(keepends=True)


def _records(lines: list[bytes]) -> list[Record]:
    return [json.loads(line) for line in lines if line.endswith(b"\n")]
