# SPDX-License-Identifier: Apache-2.0
"""What came of a call: the status on the wire, and what the audit logs say of that very call.

Rules:
    1. Both have to agree: whoever compares gets one text of the two.
    2. A call is found in a log by its connection's address, and inside by the external API's name:
       calls are made one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from examples.demonstration.child import until
from examples.demonstration.verdict import observed
from examples.edge.hop import Hop
from examples.edge.zones import EXTERNAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.demonstration.wire import Answer
    from examples.edge.stage import Stage
    from examples.edge.trail import Record, Trail

__all__ = ("Witness",)

_LOG_SECONDS = 3.0
_OURS = "spiffe://example.org/ns/shop/sa/"


class Witness:
    """Looks at the wire and into both logs.

    Args:
        stage: Where the calls are made.
    """

    def __init__(self, stage: Stage) -> None:
        self._outside = stage.external.trail
        self._inside = stage.internal.trail

    def through(self, call: Callable[[], Answer]) -> str:
        """Make a call to the outside face, and tell what came of it on both hops."""
        mark = self._inside.mark()
        answer = call()
        first = _judged(self._outside, 0, answer)
        return f"{answer.status}; outside: {_said(first)}; inside: {self._onwards(mark)}"

    def program(self, status: int | None, trail_mark: tuple[int, int], path: str) -> str:
        """Tell what came of an app's call, of which only the path is known."""
        outside, inside = trail_mark
        first = _of_path(self._outside, outside, path)
        return f"{status}; outside: {_said(first)}; inside: {self._onwards(inside, path)}"

    def marks(self) -> tuple[int, int]:
        """Where both logs end now."""
        return self._outside.mark(), self._inside.mark()

    def inside(self, answer: Answer) -> str:
        """Tell what came of a call to the internal API."""
        return _direct(self._inside, answer)

    def outside(self, answer: Answer) -> str:
        """Tell what came of a call to the external API that goes no further."""
        return _direct(self._outside, answer)

    def refusal(self, answer: Answer) -> str:
        """Tell why a connection to the internal API that was good once is refused."""
        peer = f"127.0.0.1:{answer.port}"
        hop = _awaited(self._inside, 0, lambda r: (r["peer"], r["decision"]) == (peer, "deny"))
        return observed(answer, hop.record["reason"] if hop else "")

    def of(self, spiffe_id: str, status: int | None, path: str, mark: int) -> str:
        """Tell what came of a workload's call to the internal API."""
        hop = _of_path(self._inside, mark, path, spiffe_id)
        return f"{status}: {_said(hop)}"

    def _onwards(self, mark: int, path: str | None = None) -> str:
        records = self._inside.since(mark)
        found = [r for r in records if r["spiffe_id"] == EXTERNAL and path in (None, r["path"])]
        requests = [r for r in records if r in found and r["event"] == "request"]
        actions = [r for r in records if r["event"] == "action" and r["spiffe_id"] == EXTERNAL]
        return _said(Hop(requests[-1], actions[-1] if actions else None)) if requests else "nothing"


def _direct(trail: Trail, answer: Answer) -> str:
    hop = _judged(trail, 0, answer)
    if hop is None or hop.record["checks"] is None:
        return observed(answer, hop.record["reason"] if hop else "")
    return f"{answer.status}: {_said(hop)}"


def _judged(trail: Trail, mark: int, answer: Answer) -> Hop | None:
    peer = f"127.0.0.1:{answer.port}"
    return _awaited(trail, mark, lambda record: record["peer"] == peer)


def _of_path(trail: Trail, mark: int, path: str, spiffe_id: str | None = None) -> Hop | None:
    return _awaited(trail, mark, lambda r: (r["path"], r["spiffe_id"]) == (path, spiffe_id))


def _awaited(trail: Trail, mark: int, is_it: Callable[[Record], bool]) -> Hop | None:
    def look() -> list[Record]:
        return [record for record in trail.since(mark) if is_it(record)]

    found = until(look, _LOG_SECONDS)
    return Hop(found[-1]) if found else None


def _said(hop: Hop | None) -> str:
    if hop is None:
        return "the audit log has nothing"
    if not hop.is_allowed:
        return f"{hop.failed} failed"
    workload = hop.record["spiffe_id"]
    names = [workload.removeprefix(_OURS)] if workload else []
    names += [hop.user] if hop.user else []
    return f"{' for '.join(names) or 'anybody'} by {hop.rule}"
