# SPDX-License-Identifier: Apache-2.0
"""Puts together what both servers have decided, for the page.

It stands for the place where an organisation collects its audit logs.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from examples.edge.hop import Hop, Wire
from examples.edge.zones import COURIER, EXTERNAL, PARTNER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from examples.edge.calls import Calls
    from examples.edge.trail import Record, Trail

__all__ = ("Observatory",)

_WAIT_SECONDS = 2.0
_RECENT_BYTES = 64 * 1024
_APP_USER_PATH = "/users/carol/orders"
_VERSIONS = {0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}
_CIPHERS = {
    0x1301: "TLS_AES_128_GCM_SHA256",
    0x1302: "TLS_AES_256_GCM_SHA384",
    0x1303: "TLS_CHACHA20_POLY1305_SHA256",
}


class Observatory:
    """Both audit logs, and the external API's own view of its calls.

    Args:
        outside: The external API's.
        inside: The internal API's.
        calls: From the one to the other.
    """

    def __init__(self, outside: Trail, inside: Trail, calls: Calls) -> None:
        self._outside = outside
        self._inside = inside
        self._calls = calls

    def mark(self) -> str:
        """Where both logs end now."""
        return f"{self._outside.mark()}-{self._inside.mark()}"

    async def hops(self, path: str, mark: str, scope: Any) -> list[Hop]:
        """The hops of the last call for a path.

        Args:
            path: Of the call.
            mark: From before it.
            scope: Of the request that asks, which often came over the same connection.

        Raises:
            ValueError: The mark is none.
        """
        outside, inside = map(int, mark.split("-"))
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            judged = self._outside.since(outside), self._inside.since(inside)
            found = self._chain(path, *judged, _wire(scope))
            if found or time.monotonic() >= deadline:
                return found
            await asyncio.sleep(0.01)

    def others(self) -> dict[str, list[Hop]]:
        """The hops of the last calls of everybody else who calls all the time."""
        outside, inside = (t.recent(_RECENT_BYTES) for t in (self._outside, self._inside))
        return {
            "app": self._chain(_APP_USER_PATH, outside, inside),
            "partner": _calls_of(PARTNER, inside),
            "courier": _calls_of(COURIER, inside),
        }

    def _chain(
        self, path: str, outside: list[Record], inside: list[Record], wire: Wire | None = None
    ) -> list[Hop]:
        first = _last(outside, event="request", path=path)
        if not first:
            return []
        own = wire if wire and wire.client == first[0]["peer"] else None
        second = _last(inside, event="request", path=path, spiffe_id=EXTERNAL)
        return [Hop(first[0], wire=own), *(self._inner(record, inside) for record in second)]

    def _inner(self, record: Record, records: list[Record]) -> Hop:
        after = records[records.index(record) :]
        action = _last(after, event="action", peer=record["peer"])
        return Hop(record, action[0] if action else None, self._calls.on(record["peer"]))


def _calls_of(workload: str, records: list[Record]) -> list[Hop]:
    """The last two calls, each with another path; what was allowed first."""
    last = [record for record in records if record["spiffe_id"] == workload][-2:]
    hops = [Hop(record) for record in {record["path"]: record for record in last}.values()]
    return sorted(hops, key=lambda hop: not hop.is_allowed)


def _last(records: Iterable[Record], **fields: str) -> list[Record]:
    found = [r for r in records if all(r[name] == value for name, value in fields.items())]
    return found[-1:]


def _wire(scope: Any) -> Wire:
    tls = scope["extensions"]["tls"]
    host, port = scope["client"][:2]
    number = tls["cipher_suite"]
    cipher = _CIPHERS.get(number, f"cipher suite 0x{number:04x}" if number else None)
    return Wire(f"{host}:{port}", _VERSIONS.get(tls["tls_version"]), cipher)
