# SPDX-License-Identifier: Apache-2.0
"""Everything rotates while web calls orders without a pause: what came of it.

Rules:
    1. A load that was too small proves nothing, so how large it was is a case of its own.
    2. What web counted has to be what the server's log counted.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from examples.demo.load import LoadProgram, Tally
from examples.demo.result import Endurance
from examples.demo.rotation import Rotation
from examples.demonstration.case import Case

if TYPE_CHECKING:
    from examples.demo.stage import Stage

__all__ = ("endurance",)

_LOAD_SECONDS = 60.0
_ROOT_REMOVED = "its root is removed:"


def endurance(stage: Stage) -> Endurance:
    """Load, rotate, replace the root, and count.

    Raises:
        DemoError: A process ended by itself.
    """
    settings, domains, orders = stage.settings, stage.domains, stage.orders
    load = LoadProgram(
        orders.url,
        domains.volume("web"),
        connections=settings.connections,
        log=settings.logs / "web-load.log",
    )
    with closing(load):
        rotation = Rotation(domains, orders, load, stage.screen)
        load.wait_for(2 * settings.connections, _LOAD_SECONDS)  # it is under way
        rotation.rotate_svids(settings.rotations)
        added, removed, cases = _replace_root(stage, rotation)
        load.wait_for(settings.requests, _LOAD_SECONDS)
        tally = load.finish()
    failures = {**tally.failures, **rotation.failed_probes}
    failed = tally.failed + rotation.failed_probes.total()
    cases = [
        _rotated(stage, rotation),
        *cases,
        *_counts(stage, tally),
        _failed(failed, failures),
    ]
    return Endurance(
        tuple(cases),
        requests=tally.requests + rotation.probes,
        failed=failed,
        svid=tuple(rotation.svid_seconds),
        root_added=added,
        root_removed=removed,
    )


def _replace_root(stage: Stage, rotation: Rotation) -> tuple[float, float, list[Case]]:
    orders = stage.orders
    with closing(rotation.held()) as held:
        added = rotation.add_root()
        rotation.activate_root()
        removed = rotation.retire_root(held)
        return (
            added,
            removed,
            [
                _out("new connection", "unknown root", orders.observed(held.afresh())),
                _out("kept-alive connection", "root removed", orders.observed(held.kept())),
                _out("TLS resumption", "unknown root", orders.observed(held.resumed())),
                stage.controls.removed_root(),
            ],
        )


def _out(how: str, reason: str, observed: str) -> Case:
    return Case(f"{_ROOT_REMOVED} {how}", f"refused: {reason}", observed)


def _rotated(stage: Stage, rotation: Rotation) -> Case:
    times = stage.settings.rotations
    seen = len(set(rotation.serials))
    logged = sum(stage.orders.has_loaded(serial) for serial in set(rotation.serials))
    return Case("SVIDs rotate", _rotations(times, times), _rotations(seen, logged))


def _rotations(seen: int, logged: int) -> str:
    return f"{seen} new ones on the wire, {logged} in the server's log"


def _counts(stage: Stage, tally: Tally) -> list[Case]:
    """Whether the load was one, and whether both sides count the same."""
    settings = stage.settings
    answered = stage.orders.count(r"(?:GET|POST)", r"/orders(?:/\d+)?", "200")
    right = tally.requests - tally.failed
    return [
        _at_least("requests under load", settings.requests, tally.requests),
        _at_least("kept-alive connections in use", settings.connections, tally.kept_alive),
        _at_least("connections for one request", settings.requests // 100, tally.fresh),
        Case("answers: web's count, and the server's log", f"{right:,}", f"{answered:,}"),
    ]


def _at_least(name: str, least: int, number: int) -> Case:
    expected = f"at least {least:,}"
    return Case(name, expected, expected if number >= least else f"{number:,}")


def _failed(failed: int, failures: dict[str, int]) -> Case:
    reasons = "; ".join(f"{number} x {why}" for why, number in failures.items())
    return Case("requests that failed", "0", f"{failed}{reasons and f': {reasons}'}")
