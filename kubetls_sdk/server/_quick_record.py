# SPDX-License-Identifier: Apache-2.0
"""Metrics and audit log of the quick way: what `record_request` writes, of parts made before.

A line of the audit log is the time, then what one connection has in common (`Ends`), and between
that what equal requests have in common (`Trace`).

Rules:
    1. Count for count and byte for byte what `record_request` would have written.
    2. A part belongs to what it was made of: the recorders in force, the generation, and by the
       admission the policy, the identity, the method and the path. A changed one is made anew.
    3. Where lines cannot be written directly, the handler gets its `AuditRecord` as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kubetls_sdk import audit, metrics
from kubetls_sdk._audit_line import closing, opening, question, time_text
from kubetls_sdk.server import tracing
from kubetls_sdk.server.record import counted, record_request, tls_version, write_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubetls_sdk.audit import AuditRecord
    from kubetls_sdk.authz import Decision
    from kubetls_sdk.server.connection import PeerConnection
    from kubetls_sdk.server.verdicts import Admission

__all__ = ("Ends", "Trace", "record_quickly")


class Trace:
    """What is recorded of each request that one admission lets in.

    Attributes:
        counter: The metrics that `increments` belong to.
        increments: Count one request.
        question: The middle of its line; None before the first.
    """

    __slots__ = ("counter", "increments", "question")

    def __init__(self) -> None:
        self.counter: object = None
        self.increments: tuple[Callable[[], None], ...] = ()
        self.question: str | None = None

    def count(self, counter: metrics.Recorder, decision: Decision) -> None:
        """Count a request."""
        if self.counter is not counter:
            children = [counter.request(verdict, rule) for verdict, rule in counted(decision)]
            self.counter, self.increments = counter, tuple([child.inc for child in children])
        for increment in self.increments:
            increment()


class Ends(NamedTuple):
    """What the lines about one connection have in common.

    Attributes:
        writer: The audit log that they are for.
        generation: That the peer was last verified under; not the snapshot, which has a key.
        opening: What follows the time.
        closing: What follows the question.
    """

    writer: object
    generation: int
    opening: str
    closing: str


def record_quickly(peer: PeerConnection, admission: Admission, scope: Any, now: float) -> None:
    """Do what `record_request` does, for a request like one that was allowed before."""
    if tracing._current_span is not None:  # noqa: SLF001 - enabled after the connection was made
        record_request(peer, admission.decision, admission.method, scope)
        return
    counter, writer = metrics._recorder, audit._recorder  # noqa: SLF001 - see `is_recorded`
    if counter is not None:
        _trace(admission).count(counter, admission.decision)
    if type(writer) is audit.Recorder and writer.is_direct():
        if not audit.is_left_out(writer.sample_allowed):
            writer.write_line(_line(writer, peer, admission, scope, now))
    elif writer is not None:
        write_request(peer, admission.decision, admission.method, scope)


def _trace(admission: Admission) -> Trace:
    trace = admission.trace
    if trace is None:
        trace = Trace()
        object.__setattr__(admission, "trace", trace)  # the one field that is not its meaning
    return trace


def _line(
    writer: audit.Recorder, peer: PeerConnection, admission: Admission, scope: Any, moment: float
) -> str:
    ends, trace = peer.trace, _trace(admission)
    generation = peer.snapshot.generation
    if ends is None or ends.writer is not writer or ends.generation != generation:
        entry = _entry(writer, peer, admission, scope)
        ends = peer.trace = Ends(writer, generation, opening(entry), closing(entry))
    middle = trace.question
    if middle is None:
        middle = trace.question = question(_entry(writer, peer, admission, scope))
    return f'{{"time":{time_text(moment)}{ends.opening}{middle}{ends.closing}\n'


def _entry(
    writer: audit.Recorder, peer: PeerConnection, admission: Admission, scope: Any
) -> AuditRecord:
    return audit.decision_record(
        "request",
        admission.decision,
        peer=peer.address,
        spiffe_id=peer.identity,
        method=admission.method,
        path=admission.path,
        generation=peer.generation,
        sample=writer.sample_allowed,
        tls=tls_version(scope),
    )
