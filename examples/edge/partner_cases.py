# SPDX-License-Identifier: Apache-2.0
"""Partners call the internal API, until they are partners no more."""

from __future__ import annotations

import math
import time
from contextlib import closing
from typing import TYPE_CHECKING

from examples.demonstration.case import Case
from examples.demonstration.child import until
from examples.demonstration.wire import HeldConnection, StockCaller
from examples.edge.service import outcomes, program
from examples.edge.witness import Witness
from examples.edge.zones import COURIER, PARTNER

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.demonstration.wire import Answer, Credential
    from examples.edge.stage import Stage

__all__ = ("partner_cases", "removal_cases")

_CATALOGUE, _DELIVERIES, _ORDERS = "/catalogue", "/deliveries", "/users/alice/orders"
_DENIED = "403: service authorization failed"
_REMOVAL_SECONDS = 5.0
_OK = 200


def partner_cases(stage: Stage) -> list[Case]:
    """Try both partners, and the forged name."""
    witness = Witness(stage)
    forged = StockCaller(stage.internal.port, stage.zones.forged())
    alice = {"Authorization": f"Bearer {stage.visitor().token('alice')}"}
    partner = StockCaller(stage.internal.port, stage.zones.partner())
    return [
        *_workload(stage, "partner", PARTNER, {
            _CATALOGUE: f"200: {PARTNER} by partner-reads-catalogue", _DELIVERIES: _DENIED,
        }),
        *_workload(stage, "courier", COURIER, {
            _DELIVERIES: f"200: {COURIER} by courier-reads-deliveries", _CATALOGUE: _DENIED,
        }),
        Case("the partner, with alice's token: her orders", _DENIED,
             witness.inside(partner.call(_ORDERS, headers=alice))),
        Case("the external API's name, signed by the partner's CA",
             "refused: CA of another domain", witness.inside(forged.call(_ORDERS, headers=alice))),
    ]  # fmt: skip


def removal_cases(stage: Stage) -> tuple[list[Case], dict[str, float]]:
    """Trust each partner no more, see it refused, and trust it again.

    Returns:
        What was seen, and how many seconds it took.
    """
    zones = stage.zones
    removals = {
        "partner_removed": (
            "the partner is removed", zones.partner(), _CATALOGUE, zones.undeclare_partner,
        ),
        "courier_revoked": (
            "the courier is revoked", zones.courier(), _DELIVERIES, zones.revoke_courier,
        ),
    }  # fmt: skip
    cases, seconds = [], {}
    for key, removal in removals.items():
        found, seconds[key] = _removed(stage, *removal)
        cases += found
    zones.rotate()
    zones.declare_partners(stage.bundle_url)
    return [*cases, *_welcome(stage)], seconds


def _workload(stage: Stage, name: str, spiffe_id: str, expected: dict[str, str]) -> list[Case]:
    witness, mark = Witness(stage), stage.internal.trail.mark()
    log, volume = stage.place.logs / f"{name}.log", stage.zones.volume(name)
    child = program("partner", [stage.internal_url, *expected], log=log, volume=volume)
    statuses = outcomes(child)
    return [
        Case(f"the {name}: {path}", text, witness.of(spiffe_id, statuses[path], path, mark))
        for path, text in expected.items()
    ]


def _removed(
    stage: Stage, name: str, credential: Credential, path: str, remove: Callable[[], None]
) -> tuple[list[Case], float]:
    """Take a partner's trust away while it holds a connection."""
    witness = Witness(stage)
    with closing(HeldConnection(stage.internal.port, credential, path)) as held:
        started_at = time.monotonic()
        remove()
        answer = _first_refusal(held)
        seconds = time.monotonic() - started_at if answer else math.inf
        kept = "200" if answer is None else witness.refusal(answer)
        return [
            Case(f"{name}: its connection from before", "refused: root removed", kept),
            Case(f"{name}: a new connection", "refused: unknown root",
                 witness.inside(held.afresh())),
            Case(f"{name}: in effect", "within a second", _in_words(seconds)),
        ], seconds  # fmt: skip


def _first_refusal(held: HeldConnection) -> Answer | None:
    def look() -> Answer | None:
        answer = held.kept()
        return answer if answer.status != _OK else None

    return until(look, _REMOVAL_SECONDS)


def _in_words(seconds: float) -> str:
    return "within a second" if seconds < 1.0 else f"after {seconds:.1f} s"


def _welcome(stage: Stage) -> list[Case]:
    """Declared again, both are partners as before."""
    zones = stage.zones
    return [
        Case("the partner is declared again", "200", _awaited(stage, zones.partner(), _CATALOGUE)),
        Case("the courier is declared again", "200", _awaited(stage, zones.courier(), _DELIVERIES)),
    ]


def _awaited(stage: Stage, credential: Credential, path: str) -> str:
    caller = StockCaller(stage.internal.port, credential)
    is_in = until(lambda: caller.call(path).status == _OK, _REMOVAL_SECONDS)
    return "200" if is_in else "refused"
