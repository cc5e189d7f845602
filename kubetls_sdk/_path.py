# SPDX-License-Identifier: Apache-2.0
"""Placeholder until the path validator lands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography import x509


class PathError(Exception):
    """No valid path."""


def find_path(
    leaf: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    authorities: Sequence[x509.Certificate],
    *,
    now: datetime,
) -> Sequence[x509.Certificate]:
    """Not there yet."""
    raise PathError("no path")
