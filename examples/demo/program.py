# SPDX-License-Identifier: Apache-2.0
"""The processes that call orders with KubeTLS's own client, each with a volume of its own.

Rules:
    1. They start together and are asked for their outcomes later: starting Python takes longest.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from examples.demo.domains import BILLING, ORDERS, PARTNER, WEB
from examples.demonstration.case import Case
from examples.demonstration.child import Child, DemoError
from examples.demonstration.verdict import observed
from examples.demonstration.wire import Answer

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from examples.demo.domains import Domains
    from examples.demo.server import OrdersServer

__all__ = ("program_cases",)

_ENDS_WITHIN_SECONDS = 20.0
_NEVER_SENT = "/orders/never-sent"


class Program:
    """A running call; see `examples.demo.caller`.

    Args:
        workload: Whose volume it gets.
        domains: Where that is.
        log: Where its output goes.
        arguments: Expected server, method and URL.
    """

    def __init__(self, workload: str, domains: Domains, log: Path, *arguments: str) -> None:
        self._child = Child(
            workload,
            [sys.executable, "-m", "examples.demo.caller", *arguments],
            log=log,
            environment={"KUBETLS_DIR": str(domains.volume(workload))},
        )

    def end(self) -> None:
        """End it, if it still runs."""
        self._child.end()

    def outcome(self) -> dict[str, Any]:
        """Wait for what came of it.

        Raises:
            DemoError: The program failed in another way than by a refusal.
        """
        if self._child.wait(_ENDS_WITHIN_SECONDS) != 0:
            raise DemoError(f"a caller failed, see {self._child.log}:\n{self._child.text()}")
        outcome: dict[str, Any] = json.loads(self._child.text().splitlines()[-1])
        return outcome


def program_cases(domains: Domains, orders: OrdersServer, logs: Path) -> list[Case]:
    """Start the callers and see what comes of them."""
    calls = {
        "allowed": ("web", ORDERS, "GET", f"{orders.url}/orders/A42"),
        "partner": ("partner", ORDERS, "GET", f"{orders.url}/catalogue"),
        "denied": ("billing", ORDERS, "DELETE", f"{orders.url}/orders/A42"),
        "mistaken": ("web", BILLING, "GET", f"{orders.url}{_NEVER_SENT}"),
    }
    with ExitStack() as stack:
        programs = {}
        for name, (workload, *arguments) in calls.items():
            log = logs / f"{workload}-{name}.log"
            programs[name] = Program(workload, domains, log, *arguments)
            stack.callback(programs[name].end)
        outcomes = {name: program.outcome() for name, program in programs.items()}
    return [
        _served("web reads an order", WEB, outcomes["allowed"], orders),
        _served("a partner reads the catalogue", PARTNER, outcomes["partner"], orders),
        _denied("billing deletes an order", BILLING, outcomes["denied"], orders),
        _not_sent("web expects billing, orders answers", outcomes["mistaken"], orders),
    ]


def _served(name: str, caller: str, outcome: dict[str, Any], orders: OrdersServer) -> Case:
    expected = f"200 as {caller}"
    body = outcome.get("body", {})
    observed = f"{_status(outcome)} as {body.get('caller')}"
    if "port" in body and not orders.has_answered(body["port"], outcome["status"]):
        observed += ", which the log does not have"
    return Case(name, expected, observed)


def _denied(name: str, caller: str, outcome: dict[str, Any], orders: OrdersServer) -> Case:
    answer = Answer(0, outcome.get("status"), detail=outcome.get("error", ""))
    return Case(name, "403: no rule allows it", observed(answer, orders.refusal_of(caller)))


def _not_sent(name: str, outcome: dict[str, Any], orders: OrdersServer) -> Case:
    expected = "refused by web, nothing sent"
    requests = orders.count("GET", _NEVER_SENT, r"\d+")
    if not outcome.get("refused_by_client"):
        return Case(name, expected, _status(outcome))
    sent = f"{requests} sent" if requests else "nothing sent"
    return Case(name, expected, f"refused by web, {sent}")


def _status(outcome: dict[str, Any]) -> str:
    return str(outcome.get("status") or outcome.get("error"))
