# SPDX-License-Identifier: Apache-2.0
"""1,000 rotations under load: how soon each is in effect, and what it costs.

500 times both the server's and the client's volume are rotated at once, faster than any platform
does it, while the client calls without a pause.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from benchmarks.measure import Measure, Spread
from benchmarks.processes import LOAD_CPU, on_core
from benchmarks.rotating import DEADLINE_SECONDS, LOOK_SECONDS, Rotating
from benchmarks.workspace import Workspace
from kubetls_sdk import StaticSource, TrustBundleSet
from kubetls_sdk._context import server_context
from kubetls_sdk._inner_context import InnerContext

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kubetls_sdk.testing import DevelopmentCA

ROUNDS = 500  # of two rotations each
WARM_UP = 100
FORGET = 20  # rounds after which the application's own notes are taken from it
SLICES = 6
SLICE_SECONDS = 1.0
BUILDS = 200


def measures() -> Iterator[Measure]:
    """Everything that a rotation could harm."""
    with Workspace.temporary() as workspace, on_core(LOAD_CPU):
        yield _build(workspace.ca)
        with Rotating.started(workspace) as rotating:
            yield _stall(rotating)
            yield from _endurance(rotating)


def _build(ca: DevelopmentCA) -> Measure:
    source = StaticSource(ca.issue("/ns/shop/sa/orders"), TrustBundleSet([ca.bundle]))
    context = server_context(source)
    times = []
    for _ in range(BUILDS):
        started = time.perf_counter()
        InnerContext.build(source.snapshot, context, notes_presented=False)
        times.append((time.perf_counter() - started) * 1000)
    spread = Spread.of(times)
    return Measure("rotation: context build", spread.median, "ms", 2.0, "lower", "itself", spread)


def _stall(rotating: Rotating) -> Measure:
    """The longest stall of the server's loop in a slice of rotations, less that of one without.

    Both have the same load: the client's requests, and looks that connect anew.
    """
    without, during = [], []
    for _ in range(SLICES):
        without.append(_longest(rotating, is_rotated=False))
        during.append(_longest(rotating, is_rotated=True))
    added = Spread.of([(d - w) * 1000 for d, w in zip(during, without, strict=True)])
    usual = statistics.median(without) * 1000
    return Measure(
        "rotation: stall added to the event loop", added.median, "ms", 2.0, "lower",
        f"{usual:.1f} ms under the same load", added,
    )  # fmt: skip


def _longest(rotating: Rotating, *, is_rotated: bool) -> float:
    rotating.seen()
    end = time.monotonic() + SLICE_SECONDS
    while time.monotonic() < end:
        if is_rotated:
            rotating.rotate_orders()
        else:
            rotating.presented()
            time.sleep(LOOK_SECONDS)
    return max(rotating.seen().stalls)


def _endurance(rotating: Rotating) -> Iterator[Measure]:
    serials = _rotate_both(rotating)
    results = rotating.client.finish()
    yield from _in_effect("server", rotating.seconds)
    yield from _in_effect("client", _seconds_of_client(rotating.written, serials))
    yield _failed(results, rotating.failed_looks)
    for side, sizes in zip(("server", "client"), rotating.memory, strict=True):
        growth = _slope(sizes[WARM_UP:]) * 1000
        yield Measure(
            f"rotation: memory growth, {side}", growth, "MB", 5.0, "lower",
            f"{sizes[WARM_UP]:.0f} MB before 1,000 rotations",
        )  # fmt: skip


def _rotate_both(rotating: Rotating) -> dict[str, float]:
    """Rotate time after time; return when each certificate of the client was first seen."""
    serials = rotating.seen().serials
    rotating.written.clear()
    rotating.seconds.clear()
    for number in range(1, ROUNDS + 1):
        rotating.rotate_web()
        rotating.rotate_orders()
        if number % FORGET == 0:
            serials |= rotating.seen().serials
        rotating.weigh()
    last, deadline = list(rotating.written)[-1], time.monotonic() + DEADLINE_SECONDS
    while last not in serials and time.monotonic() < deadline:
        serials |= rotating.seen().serials
    return serials


def _seconds_of_client(written: dict[str, float], seen: dict[str, float]) -> list[float]:
    """From each write to the first request under that certificate, or a later one.

    The next one may overtake it before a request is sent.
    """
    seconds, next_seen = [], float("inf")
    for serial, at in reversed(written.items()):
        next_seen = min(next_seen, seen.get(serial, float("inf")))
        seconds.append(next_seen - at)
    return seconds


def _in_effect(side: str, seconds: Sequence[float]) -> Iterator[Measure]:
    spread = Spread.of(seconds)
    name, peer = f"rotation: in effect, {side}", "the write"
    yield Measure(name, spread.median, "s", 1.0, "lower", peer, spread)
    yield Measure(f"{name}, worst", max(seconds), "s", 1.0, "lower", peer)


def _failed(results: dict[str, int], failed_looks: int) -> Measure:
    failures = {text: count for text, count in results.items() if text != "200"}
    total = sum(results.values())
    peer = f"{total:,} requests, {2 * ROUNDS:,} rotations"
    if failures:
        peer += f"; {failures}"
    count = sum(failures.values()) + failed_looks
    return Measure("rotation: failed requests", count, "", 0, "lower", peer)


def _slope(values: Sequence[float]) -> float:
    return statistics.linear_regression(range(len(values)), values).slope
