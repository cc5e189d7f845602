# SPDX-License-Identifier: Apache-2.0
"""What the ways have in common: two organisations, our server, callers, and what came of calls."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from examples.demonstration.case import Case

if TYPE_CHECKING:
    from examples.partner.terminal import Terminal

__all__ = ("Trial",)

NOBODY = "version: 1\npartners: []\n"
IN_TIME = "refused within a second"
_PATIENCE_SECONDS = 10.0
_ORGANISATIONS = (
    "kubetls dev init ours --trust-domain example.org",
    "kubetls dev issue ours --path /ns/shop/sa/orders --volume orders",
    "kubetls dev init theirs --trust-domain partner.example",
    "kubetls dev issue theirs --path /ns/sales/sa/shop --volume shop",
    "kubetls dev issue theirs --path /ns/sales/sa/guest --volume guest",
    "python forge.py theirs forged",
)


class Trial:
    """One way.

    Args:
        terminal: Where it runs.
    """

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.cases: list[Case] = []
        self._url = ""

    def found_organisations(self) -> None:
        """Two organisations, each with its CA and its workloads; nobody trusts the other yet."""
        for command in _ORGANISATIONS:
            self.terminal.run(command)

    def serve(self, federation: str) -> None:
        """Start our service with a federation file, `ours.yaml`."""
        self.terminal.write("ours.yaml", federation)
        port = self.terminal.serve(
            "KUBETLS_DIR=orders kubetls serve orders:app --port 8443"
            " --policy policy.yaml --federation ours.yaml"
        )
        self._url = f"https://127.0.0.1:{port}"

    def call(self, name: str, expected: str, volume: str, *request: str) -> None:
        """Call our service once as somebody."""
        observed = self.terminal.run(self._command(volume, *request)).strip()
        self.cases.append(Case(name, expected, observed))

    def call_soon(self, name: str, expected: str, volume: str, *request: str) -> None:
        """Call after a change, again while it is not in effect; that takes a second at most."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        self.call(name, expected, volume, *request)
        while not self.cases[-1].is_ok and time.monotonic() < deadline:
            self.cases.pop()
            self.call(name, expected, volume, *request)

    def remove(self, name: str, volume: str) -> None:
        """De-federate while somebody calls over a kept connection, until that is refused."""
        with self.terminal.calling(self._command(volume, flag="--until-refused ")) as output:
            before = output.readline().strip()
            self.terminal.write("ours.yaml", NOBODY)
            began = time.monotonic()
            after = output.readline().strip()
            seconds = time.monotonic() - began
        in_time = f"{after} within a second" if seconds < 1 else f"{after} after {seconds:.1f} s"
        self.cases.append(Case(name, f"200, then {IN_TIME}", f"{before}, then {in_time}"))

    def _command(
        self, volume: str, method: str = "GET", path: str = "/orders/42", *, flag: str = ""
    ) -> str:
        trust = f"KUBETLS_DIR={volume} FEDERATION=theirs.yaml"
        return f"{trust} python call.py {flag}{method} {self._url}{path}"
