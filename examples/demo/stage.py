# SPDX-License-Identifier: Apache-2.0
"""What every part of the demo needs: domains with volumes, `orders`, the controls, and a screen.

Rules:
    1. Whatever happens, also Ctrl-C, no process stays behind and no key stays on the disk.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from examples.demo.control import Controls
from examples.demo.domains import Domains
from examples.demo.five_checks import FiveChecks
from examples.demo.server import OrdersServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from examples.demonstration.screen import Screen

__all__ = ("Settings", "Stage", "stage")


@dataclass(frozen=True, slots=True)
class Settings:
    """How much the demo does.

    Attributes:
        kubetls: The command that is started as `kubetls`.
        logs: Where the logs of all processes go.
        requests: How many there are under load at least.
        rotations: How often SVIDs rotate.
        connections: How many are kept alive.
    """

    kubetls: Sequence[str]
    logs: Path
    requests: int = 5000
    rotations: int = 20
    connections: int = 16


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs.

    Attributes:
        settings: How much there is to do.
        screen: Shows what goes on.
        domains: Writes what is mounted.
        orders: The server under test.
        controls: Stock servers.
        five_checks: Orders with end users.
    """

    settings: Settings
    screen: Screen
    domains: Domains
    orders: OrdersServer
    controls: Controls
    five_checks: FiveChecks


@contextmanager
def stage(settings: Settings, screen: Screen) -> Iterator[Stage]:
    """Set everything up, and end it afterwards.

    Raises:
        DemoError: A process does not start.
    """
    with ExitStack() as stack:
        screen.step("Issuing two trust domains and their volumes: web, orders, billing; a partner")
        keys = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kubetls-demo-")))
        domains = Domains(keys)
        screen.step("Starting orders under `kubetls serve`, and stock uvicorn for the controls")
        volume, log = domains.volume("orders"), settings.logs / "orders.log"
        orders = stack.enter_context(closing(OrdersServer(settings.kubetls, volume, log)))
        controls = stack.enter_context(closing(Controls(domains, keys, settings.logs)))
        checks = FiveChecks(settings.kubetls, domains, keys, settings.logs)
        stack.enter_context(closing(checks))
        yield Stage(settings, screen, domains, orders, controls, checks)
