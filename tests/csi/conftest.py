# SPDX-License-Identifier: Apache-2.0
"""csi-sanity against the driver: `make test-csi`.

Rules:
    1. These tests run only when this folder, or a file of it, is named.
    2. A test that cannot run fails; none is skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.conftest import is_asked, pytest_runtest_makereport

if TYPE_CHECKING:
    import pytest

__all__ = ("pytest_runtest_makereport",)

HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave what needs csi-sanity out unless it was asked for."""
    needs_it = collection_path.name == "test_sanity.py"
    return True if needs_it and not is_asked(HERE, config) else None
