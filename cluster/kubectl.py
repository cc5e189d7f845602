# SPDX-License-Identifier: Apache-2.0
"""kubectl, run to its end."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from cluster import binaries
from cluster.exceptions import ClusterError

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS = 60.0


def run(
    kubeconfig: Path, *arguments: str, stdin: str | None = None, seconds: float = _SECONDS
) -> str:
    """Run kubectl and return what it printed.

    Raises:
        ClusterError: It failed; the message is its own.
    """
    done = subprocess.run(  # noqa: S603 - our own command line
        [binaries.find("kubectl"), f"--kubeconfig={kubeconfig}", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    if done.returncode:
        raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
