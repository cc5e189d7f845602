# SPDX-License-Identifier: Apache-2.0
"""Everything rotates under load: SVIDs many times, then the root, with overlap.

Rules:
    1. A change is in effect when the wire shows it: a new connection to orders presents the new
       certificate, and orders has seen the new one of web.
    2. Its time runs from the moment at which the volume was written.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import TYPE_CHECKING

from examples.demonstration.child import DemoError, until
from examples.demonstration.wire import HeldConnection, Refusal, StockCaller

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.demo.domains import Domains
    from examples.demo.load import LoadProgram
    from examples.demo.server import OrdersServer
    from examples.demonstration.screen import Screen

__all__ = ("Rotation",)

_PATH = "/orders/probe"
_OK = 200
_MAX_SECONDS = 8.0
_LOOK_SECONDS = 0.02  # each look is a new connection
_PERIOD_SECONDS = 0.3


class Rotation:
    """Changes what is mounted while web and orders are busy, and watches the wire.

    Args:
        domains: Writes the volumes.
        orders: The server.
        load: The client.
        screen: Shows how far it is.
    """

    def __init__(
        self, domains: Domains, orders: OrdersServer, load: LoadProgram, screen: Screen
    ) -> None:
        self._domains = domains
        self._orders = orders
        self._load = load
        self._screen = screen
        self._prober = StockCaller(orders.port, domains.valid())
        self.svid_seconds: list[float] = []
        self.serials: list[int] = []
        self.probes = 0
        self.failed_probes: Counter[str] = Counter()

    def rotate_svids(self, times: int) -> None:
        """Give all workloads new SVIDs, time after time.

        Raises:
            DemoError: A rotation never takes effect.
        """
        for number in range(1, times + 1):
            started_at = time.monotonic()
            self._domains.rotate_svids()
            self._see_svids()
            self.serials.append(self._domains.serial("orders"))
            self._show(f"rotation {number} of {times}")
            time.sleep(max(0.0, started_at + _PERIOD_SECONDS - time.monotonic()))

    def add_root(self) -> float:
        """Publish a second root; returns after how long a caller of it got in.

        Raises:
            DemoError: Not everybody has it in the end.
        """
        self._domains.add_root()
        self._show("second root published")
        caller = StockCaller(self._orders.port, self._domains.of_next_root())
        seconds = self._seconds("orders", lambda: caller.call(_PATH).status == _OK)
        # Nothing may be signed by it before web trusts it too: whoever presents an SVID that was
        # written later has read the bundle that was written before.
        self._domains.rotate_svids()
        self._see_svids()
        return seconds

    def activate_root(self) -> None:
        """Let the second root sign for everybody.

        Raises:
            DemoError: The new SVIDs never take effect.
        """
        self._domains.activate_root()
        self._see_svids()
        self._show("second root signs")

    def retire_root(self, held: HeldConnection) -> float:
        """Remove the first root; returns after how long a caller of it did not get in."""
        self._domains.retire_root()
        self._show("first root removed")
        return self._seconds("orders", lambda: held.afresh().status != _OK)

    def held(self) -> HeldConnection:
        """Somebody who is let in now, under the root that signs now.

        Raises:
            DemoError: It is not let in.
        """
        return HeldConnection(self._orders.port, self._domains.valid())

    def _see_svids(self) -> None:
        """Wait until the wire shows the new certificates of both sides."""
        ours, webs = self._domains.serial("orders"), self._domains.serial("web")
        self.svid_seconds.append(self._seconds("orders", lambda: self._serial() == ours))
        seen_at = until(lambda: self._load.served_as(webs), _MAX_SECONDS)
        if seen_at is None or math.isinf(self.svid_seconds[-1]):
            late = "web" if seen_at is None else "orders"
            raise DemoError(f"{late} has not presented its new certificate in {_MAX_SECONDS:.0f} s")
        self.svid_seconds.append(seen_at - self._domains.written_at("web"))

    def _seconds(self, volume: str, is_in_effect: Callable[[], bool]) -> float:
        """Look until it is in effect; infinite when it never is."""
        if until(is_in_effect, _MAX_SECONDS, _LOOK_SECONDS):
            return time.time() - self._domains.written_at(volume)
        self._orders.check_alive()
        return float("inf")

    def _serial(self) -> int | None:
        """What orders presents on a new connection, over which it also serves a request."""
        self.probes += 1
        try:
            with self._prober.connect() as connection:
                answer = connection.get(_PATH)
                if answer.status == _OK:
                    return connection.server_serial
        except Refusal as refusal:
            answer = refusal.answer
        self.failed_probes[f"probe: {answer.status or answer.detail}"] += 1
        return None

    def _show(self, text: str) -> None:
        tally = self._load.tally()
        self._screen.progress(f"{text}; {tally.requests:,} requests, {tally.failed} failed")
