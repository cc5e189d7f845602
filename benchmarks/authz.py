# SPDX-License-Identifier: Apache-2.0
"""How fast a policy decides and loads, beside a plain dictionary, pycasbin and cedarpy.

The peers are measured when they are installed (`pip install casbin cedarpy`). Each decides the same
question: may this service GET this order? Every set is asked for callers and paths in its middle.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import tempfile
import time
import timeit
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Measure, Spread
from kubetls_sdk._breather import Breather
from kubetls_sdk.authz import PolicySet, refusal
from kubetls_sdk.policy_file import PolicyFile
from kubetls_sdk.spiffe_id import SpiffeId, TrustDomain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OWN = TrustDomain("example.org")
SIZES = (10, 100, 1_000, 10_000)
ROUNDS = 15


def measures() -> Iterator[Measure]:
    yield from deciding()
    yield from canonical()
    yield from loading()
    yield from stalling()
    yield from peers()


def policy_text(count: int, *, wild: bool = False) -> str:
    """One allow rule per service, each with its own path."""
    lines = ["version: 1", "policies:", "  - name: bench", "    allow:"]
    for index in range(count):
        who = f'spiffeId: "spiffe://example.org/ns/*/sa/s{index}"'
        plain = f"namespace: n{index}, serviceAccount: web"
        path = f"/s{index}/**" if wild else f"/s{index}/orders/{{id}}"
        lines += [
            f"      - name: r{index}",
            f"        from: {{{who if wild else plain}}}",
            f'        to: {{methods: [GET, POST], paths: ["{path}"]}}',
        ]
    return "\n".join(lines) + "\n"


def policies(count: int, *, wild: bool = False) -> PolicySet:
    return PolicySet.parse({"bench.yaml": policy_text(count, wild=wild)}, trust_domain=OWN)


def question(count: int, *, wild: bool = False) -> tuple[SpiffeId, str, str]:
    middle = count // 2
    place = f"ns/shop/sa/s{middle}" if wild else f"ns/n{middle}/sa/web"
    return SpiffeId.parse(f"spiffe://example.org/{place}"), "GET", f"/s{middle}/orders/42"


def microseconds(call: Callable[[], object], number: int = 20_000) -> Spread:
    """CPU time of one call, without the loop around it."""
    timer = time.thread_time  # Other processes do not count.
    empty = min(timeit.repeat(lambda: None, timer=timer, number=number, repeat=5))
    runs = timeit.repeat(call, timer=timer, number=number, repeat=ROUNDS)
    return Spread.of([(run - empty) / number * 1e6 for run in runs])


def deciding() -> Iterator[Measure]:
    for wild, goal, name in ((False, 0.5, "exact"), (True, 2.0, "wildcards")):
        spreads = {}
        for count in SIZES:
            made, asked = policies(count, wild=wild), question(count, wild=wild)
            assert made.decide(*asked).allowed
            decide = made.decide
            spreads[count] = spread = microseconds(lambda d=decide, a=asked: d(*a))  # type: ignore[misc]
            label = f"authz.decide.{name}.{count}"
            yield Measure(label, spread.median, "us", goal, "lower", "itself", spread)
        growth = spreads[SIZES[-1]].median / spreads[SIZES[0]].median
        yield Measure(f"authz.decide.{name}.growth", growth, "x", 1.5, "lower", "10 rules")
    made = policies(10_000)
    caller, method, _ = question(10_000)
    spread = microseconds(lambda: made.decide(caller, method, "/nothing/here"))
    yield Measure("authz.decide.denied.10000", spread.median, "us", None, "lower", "itself", spread)


def canonical() -> Iterator[Measure]:
    spread = microseconds(lambda: refusal("GET", "/orders/42", b"/orders/42"))
    yield Measure("authz.canonical", spread.median, "us", None, "lower", "itself", spread)


def loading() -> Iterator[Measure]:
    text = policy_text(10_000)
    seconds = []
    for _ in range(5):
        gc.collect()
        started = time.thread_time()
        PolicySet.parse({"bench.yaml": text}, trust_domain=OWN, pause=Breather())
        seconds.append(time.thread_time() - started)
    spread = Spread.of(seconds)
    yield Measure("authz.load.10000", spread.median, "s", 0.5, "lower", "itself (CPU)", spread)
    gc.collect()
    tracemalloc.start()
    made = PolicySet.parse({"bench.yaml": text}, trust_domain=OWN)
    gc.collect()
    size = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    assert made.policies
    yield Measure("authz.memory.10000", size, "MB", 20, "lower", "itself")


def stalling() -> Iterator[Measure]:
    """The longest pause of an event loop while a thread replaces rules, beside one that only works.

    The peer works as long as the load between two breaths: what is longer than its pauses is ours.
    """
    for count in SIZES[1:]:
        ours, theirs = [], []
        for _ in range(7):
            ours.append(asyncio.run(_longest(_reload(count))))
            theirs.append(asyncio.run(_longest(_spin)))
        goal = None if count == 100 else 5
        label, spread = f"authz.reload.stall.{count}", Spread.of(ours)
        yield Measure(label, spread.median, "ms", goal, "lower", "a loop alone", spread)
    spread = Spread.of(theirs)
    yield Measure("authz.reload.stall.peer", spread.median, "ms", None, "lower", "work", spread)


def _reload(count: int) -> Callable[[], None]:
    path = Path(tempfile.mkdtemp()) / "policy.yaml"
    path.write_text(policy_text(count))
    holder = PolicyFile(path, trust_domain=OWN).start()
    holder.close()  # The watcher would look as well.
    path.write_text(policy_text(count).replace("bench", "again"))

    def load() -> None:
        holder.reload()
        holder.reload()  # The next look frees what was replaced.

    return load


def _spin() -> None:
    pause, until = Breather(), time.perf_counter() + 1.0
    while time.perf_counter() < until:
        sum(range(2_000))
        pause()


async def _longest(work: Callable[[], None]) -> float:
    working = asyncio.create_task(asyncio.to_thread(work))
    worst, last = 0.0, time.perf_counter()
    while not working.done():
        await asyncio.sleep(0.0005)
        now = time.perf_counter()
        worst, last = max(worst, now - last - 0.0005), now
    return worst * 1000


def peers() -> Iterator[Measure]:
    for name, make in (("dict", _plain), ("casbin", _casbin), ("cedarpy", _cedarpy)):
        if name != "dict" and importlib.util.find_spec(name) is None:
            continue
        for count in SIZES:
            call, number = make(count)
            assert call()
            spread = microseconds(call, number)
            label = f"authz.peer.{name}.{count}"
            yield Measure(label, spread.median, "us", None, "lower", name, spread)


def _plain(count: int) -> tuple[Callable[[], bool], int]:
    allowed = {(f"n{index}", "GET", f"/s{index}/orders/") for index in range(count)}
    asked, _, path = question(count)

    def decide() -> bool:
        key = (asked.path.split("/")[2], "GET", path[: path.rindex("/") + 1])
        return key in allowed

    return decide, 20_000


def _casbin(count: int) -> tuple[Callable[[], bool], int]:
    import casbin

    model = Path(tempfile.mkdtemp()) / "model.conf"
    model.write_text(
        "[request_definition]\nr = sub, obj, act\n[policy_definition]\np = sub, obj, act\n"
        "[policy_effect]\ne = some(where (p.eft == allow))\n"
        "[matchers]\nm = r.sub == p.sub && keyMatch2(r.obj, p.obj) && r.act == p.act\n"
    )
    enforcer: Any = casbin.FastEnforcer(str(model), cache_key_order=[0])
    enforcer.add_policies(
        [
            [f"spiffe://example.org/ns/n{index}/sa/web", f"/s{index}/orders/:id", "GET"]
            for index in range(count)
        ]
    )
    caller, method, path = question(count)
    return lambda: enforcer.enforce(str(caller), path, method), 200


def _cedarpy(count: int) -> tuple[Callable[[], bool], int]:
    import cedarpy

    text = "\n".join(
        f'permit(principal == Service::"n{index}", action == Action::"GET", '
        f'resource == Path::"/s{index}/orders");'
        for index in range(count)
    )
    middle = count // 2
    asked = {
        "principal": f'Service::"n{middle}"',
        "action": 'Action::"GET"',
        "resource": f'Path::"/s{middle}/orders"',
        "context": {},
    }
    return lambda: bool(cedarpy.is_authorized(asked, text, []).allowed), max(1, 500 // count)
