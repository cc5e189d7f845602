# SPDX-License-Identifier: Apache-2.0
"""Callers that ought not to be let in, or not any more.

Rules:
    1. Attackers use the ssl module as it is, see `examples.demonstration.wire`.
"""

from __future__ import annotations

import http
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from examples.demo.control import resumption_control
from examples.demonstration.case import Case
from examples.demonstration.wire import HeldConnection, StockCaller

if TYPE_CHECKING:
    from examples.demo.domains import Domains
    from examples.demo.server import OrdersServer
    from examples.demonstration.wire import Answer

__all__ = ("ExpiringCaller", "attack_cases")

_SHORT = timedelta(seconds=3)
_BEFORE_SECONDS = 0.05
_OPENSSL_SECONDS = 1.2  # OpenSSL compares whole seconds
_EXPIRED = "refused: expired"
_PATH = "/orders/probe"


def attack_cases(domains: Domains, orders: OrdersServer) -> list[Case]:
    """Callers that have no right SVID, one after the other."""
    attackers = (
        ("a caller without certificate", None, "no certificate"),
        ("a caller from an untrusted domain", domains.untrusted(), "unknown root"),
        ("an expired caller", domains.expired(), "expired"),
        ("web's name, signed by the partner's CA", domains.forged(), "CA of another domain"),
    )
    cases = []
    for name, credential, reason in attackers:
        answer = StockCaller(orders.port, credential).call(_PATH)
        cases.append(Case(name, f"refused: {reason}", orders.observed(answer)))
    return cases


class ExpiringCaller:
    """A caller whose certificate expires while it holds a connection and a TLS session.

    Args:
        domains: Issues the short-lived certificate.
        port: The server that lets it in while it is valid.
    """

    def __init__(self, domains: Domains, port: int) -> None:
        svid = domains.valid(_SHORT)
        self._held = HeldConnection(port, svid)
        self._expires_at = svid.not_after.timestamp()

    def cases(self, orders: OrdersServer) -> list[Case]:
        """Wait for the expiry and try everything against orders."""
        kept = orders.observed(self._first_after_expiry())
        self._wait(_OPENSSL_SECONDS)
        resumed = orders.observed(self._held.resumed())
        return [
            Case("expires while connected: kept-alive connection", _EXPIRED, kept),
            Case("expires while connected: TLS resumption", _EXPIRED, resumed),
        ]

    def control(self) -> Case:
        """Wait for the expiry and try to resume at a stock server."""
        self._wait(_OPENSSL_SECONDS)
        return resumption_control("control: resumption after expiry", self._held)

    def close(self) -> None:
        """Let go of the connection."""
        self._held.close()

    def _first_after_expiry(self) -> Answer:
        """Send requests until one is refused, or the first one after the expiry is served.

        Whatever looks after connections from time to time has no time for it: only a check of
        each request can refuse this one.
        """
        self._wait(-_BEFORE_SECONDS)
        while True:
            sent_at = time.time()
            answer = self._held.kept()
            if answer.status != http.HTTPStatus.OK or sent_at > self._expires_at:
                return answer

    def _wait(self, seconds_after: float) -> None:
        time.sleep(max(0.0, self._expires_at + seconds_after - time.time()))
