# SPDX-License-Identifier: Apache-2.0
"""Memory, descriptors and threads stay as they are, over many rotations and channels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
MIB = 1 << 20


@pytest.mark.parametrize(
    ("mode", "kind", "times"),
    [
        pytest.param("rotations", "threaded", 1000, id="rotations-threaded"),
        pytest.param("rotations", "async", 1000, id="rotations-async"),
        pytest.param("channels", "reopened", 10_000, id="channels-reopened"),
        pytest.param("channels", "different", 1000, id="channels-different"),
    ],
)
def test_nothing_grows(mode, kind, times):
    """1,000 rotations, 10,000 reopened and 1,000 different channels leave nothing behind."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.grpc_endurance", mode, kind],
        cwd=ROOT,
        # One arena: the C library has no choice where to find memory, so what grows is ours.
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["times"] == times
    assert result["growth"] < 16 * MIB
