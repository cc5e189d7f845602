# SPDX-License-Identifier: Apache-2.0
"""The application under rotation: it sees whose certificates arrive, and how its own loop stalls.

`GET /` is the load; `GET /seen` answers with what was seen since the last time it was asked.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

from cryptography import x509

__all__ = ("app",)

_TICK_SECONDS = 0.001
_HEADERS = [(b"content-type", b"application/json")]


class Witness:
    """A plain ASGI application."""

    def __init__(self) -> None:
        self._serials: dict[str, float] = {}
        self._last_chain: Any = None
        self._stalls: list[float] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        self._see(scope["extensions"]["tls"]["client_cert_chain"])
        body = b'{"hello":"world"}' if scope["path"] == "/" else self._report()
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, length]})
        await send({"type": "http.response.body", "body": body})

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        ticking = asyncio.create_task(self._tick())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        ticking.cancel()
        await send({"type": "lifespan.shutdown.complete"})

    async def _tick(self) -> None:
        """Note how late each wake-up comes, less the time that other processes had our core."""
        schedule = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        try:
            while True:
                before = time.monotonic() - _displaced(schedule)
                await asyncio.sleep(_TICK_SECONDS)
                now = time.monotonic() - _displaced(schedule)
                self._stalls.append(now - before - _TICK_SECONDS)
        finally:
            os.close(schedule)

    def _see(self, chain: tuple[str, ...]) -> None:
        if chain and chain[0] is not self._last_chain:
            self._last_chain = chain[0]
            serial = x509.load_pem_x509_certificate(chain[0].encode()).serial_number
            self._serials.setdefault(f"{serial:x}", time.monotonic())

    def _report(self) -> bytes:
        seen = {"serials": self._serials, "stalls": self._stalls}
        self._serials, self._stalls = {}, []
        return json.dumps(seen).encode()


def _displaced(schedule: int) -> float:
    """Seconds for which the thread could have run, but another process did."""
    return int(os.pread(schedule, 100, 0).split()[1]) / 1e9


app = Witness()
