# SPDX-License-Identifier: Apache-2.0
"""Run a function of a test module in a Python process of its own.

For tests that fork: in the process of all tests, threads of other libraries (gRPC's among them)
would keep a fork waiting for ever.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ("run_in_fresh_process",)

_ROOT = Path(__file__).parents[1]


def run_in_fresh_process(module: str, function: str, *arguments: str) -> str:
    """Call `function(*arguments)` of a module and return what it printed, without white space.

    Raises:
        AssertionError: The process failed; the message has its error output.
    """
    code = f"import sys; from {module} import {function}; {function}(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
