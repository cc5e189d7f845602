# SPDX-License-Identifier: Apache-2.0
"""The tables of other libraries' behaviour: each row says what is given, what they do, and we.

Rules:
1. A row where we differ says why, and a row where we do not needs no reason.
2. Every row is executed by a test; the tests refuse a kind that they do not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

LIBRARIES = ("go_spiffe", "java_spiffe", "rust_spiffe")
KINDS = {
    "documents", "files", "following", "pauses", "settings", "domains", "sets", "names", "serving",
    "endpoints",
}  # fmt: skip
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        library: Whose behaviour.
        kind: What is done with what is given.
        given: In words; the tests have the thing itself under the same words.
        theirs: What the library does.
        ours: What we do.
        why: Where we differ.
    """

    library: str
    kind: str
    given: str
    theirs: Any
    ours: Any
    why: str | None = None

    @property
    def is_same(self) -> bool:
        """Whether we do the same; what only we count makes no difference."""
        if isinstance(self.theirs, dict) and isinstance(self.ours, dict):
            return self.theirs.items() <= self.ours.items()
        return self.theirs == self.ours


@cache
def rows() -> list[Row]:
    """All rows of all tables."""
    found = []
    for library in LIBRARIES:
        document = yaml.safe_load((HERE / f"{library}.yaml").read_text())
        for kind in document.keys() - {"library", "read_in"}:
            found += [Row(library, kind, **row) for row in document[kind]]
    return found


def of(kind: str) -> list[Any]:
    """The rows of a kind, as pytest's parameters."""
    return [
        pytest.param(row, id=f"{row.library}: {row.given or 'an empty text'}")
        for row in rows()
        if row.kind == kind
    ]
