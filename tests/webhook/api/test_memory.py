# SPDX-License-Identifier: Apache-2.0
"""What an informer of a large cluster costs, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

MEASURE = """
import asyncio, re, sys
from pathlib import Path
sys.path.insert(0, ".")
from tests.webhook.api.pod_factory import serve_pods
from webhook.api import Informer, Pod
from webhook.api.resources import PODS

async def main():
    async with serve_pods(int(sys.argv[1])) as api:
        async with Informer(api, PODS, Pod.parse) as pods:
            await pods.synced()
            # Not ru_maxrss: after a fork that is the parent's.
            status = Path("/proc/self/status").read_text()
            print(len(pods), int(re.search(r"VmHWM:\\s+([0-9]+) kB", status)[1]) // 1024)

asyncio.run(main())
"""


@pytest.mark.slow
class TestMemory:
    def test_ten_thousand_pods_take_less_than_150_megabytes(self):
        """The peak of the whole process, the list of full objects included."""
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, "10000"], capture_output=True, text=True, timeout=55
        )
        assert done.returncode == 0, done.stderr
        count, megabytes = map(int, done.stdout.split())
        assert count == 10_000
        assert megabytes < 150
