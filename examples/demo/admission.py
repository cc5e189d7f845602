# SPDX-License-Identifier: Apache-2.0
"""Who gets in: right callers, wrong callers, and the wrong ones against stock uvicorn."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from examples.demo.attack import ExpiringCaller, attack_cases
from examples.demo.program import program_cases

if TYPE_CHECKING:
    from examples.demo.stage import Stage
    from examples.demonstration.case import Case

__all__ = ("admission_cases",)


def admission_cases(stage: Stage) -> list[Case]:
    """Try everybody."""
    domains, orders, controls = stage.domains, stage.orders, stage.controls
    cases = [
        *program_cases(domains, orders, stage.settings.logs),
        *attack_cases(domains, orders),
        controls.forged(),
    ]
    with ExitStack() as stack:
        stage.screen.progress("waiting for a certificate to expire")
        expiring = stack.enter_context(closing(ExpiringCaller(domains, orders.port)))
        elsewhere = stack.enter_context(closing(ExpiringCaller(domains, controls.port)))
        return [*cases, *expiring.cases(orders), elsewhere.control()]
