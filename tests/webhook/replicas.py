# SPDX-License-Identifier: Apache-2.0
"""A replica of the control plane that runs in this process, and its probes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from tests.waiting import eventually

__all__ = ("running", "status")


@asynccontextmanager
async def running(replica):
    """Serve in the background; yields once it is ready, and ends it in order."""
    stop = asyncio.Event()
    serving = asyncio.create_task(replica.serve(stop))
    await eventually(lambda: replica.is_ready or serving.done(), within=10)
    try:
        yield serving
    finally:
        stop.set()
        await serving


async def status(port, path):
    """The status line's number of a probe."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(line.split()[1])
