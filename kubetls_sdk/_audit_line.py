# SPDX-License-Identifier: Apache-2.0
"""The text of a line of the audit log: JSON in parts, most of which many lines have in common.

Rules:
    1. Every line is made of these parts, whichever way its request took through the server.
    2. Whatever a peer chose is escaped here, to printable ASCII, before it is part of a line.
"""

from __future__ import annotations

from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as _escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubetls_sdk._audit_record import AuditRecord

__all__ = (
    "MAX_CHARACTERS",
    "around",
    "closing",
    "cut",
    "line",
    "opening",
    "question",
    "time_text",
)

MAX_CHARACTERS = 1024
"""Texts of a peer, such as paths, are cut to this length; `...` then marks the cut."""


def line(entry: AuditRecord, parts: tuple[str, str]) -> str:
    """The JSON of a record, from its own time and path and the parts `around` them."""
    before, after = parts
    return f'{{"time":{time_text(entry.time)}{before}{_quoted(entry.path)}{after}'


def around(entry: AuditRecord) -> tuple[str, str]:
    """The JSON of a record around its time and its path, the two that differ with each request."""
    return opening(entry) + _asked(entry), _answer(entry) + closing(entry)


def opening(entry: AuditRecord) -> str:
    """What follows the time: the same for all that one connection may do."""
    return (
        f',"event":{_quoted(entry.event)},"decision":{_quoted(entry.decision)}'
        f',"peer":{_quoted(entry.peer)}'
    )


def question(entry: AuditRecord) -> str:
    """What follows the `opening`: the same for equal requests of one identity."""
    return f"{_asked(entry)}{_quoted(entry.path)}{_answer(entry)}"


def closing(entry: AuditRecord) -> str:
    """What follows the `question`, to the end: the same for a connection and its generation."""
    return (
        f',"generation":{"null" if entry.generation is None else entry.generation}'
        f',"sample":{entry.sample},"tls":{_quoted(entry.tls)},"user":{_user_text(entry.user)}'
        f',"checks":{"null" if entry.checks is None else entry.checks.text}'
        f',"forwarded":{_quoted(entry.forwarded)}}}'
    )


def _asked(entry: AuditRecord) -> str:
    return (
        f',"spiffe_id":{_quoted(entry.spiffe_id)}'
        f',"verified":{"true" if entry.verified else "false"}'
        f',"method":{_quoted(entry.method)},"path":'
    )


def _answer(entry: AuditRecord) -> str:
    return (
        f',"policy":{_quoted(entry.policy)},"rule":{_quoted(entry.rule)}'
        f',"reason":{_quoted(entry.reason)},"shadow":{_quoted(entry.shadow)}'
    )


_last_second = (0, "")
_last_moment = (0, "")


def time_text(moment: float) -> str:
    """UTC in ISO 8601 with milliseconds, in quotes; each text is made once for all its lines."""
    global _last_second, _last_moment  # noqa: PLW0603 - references, replaced as a whole
    milliseconds = int(moment * 1000)
    last = _last_moment
    if last[0] == milliseconds:
        return last[1]
    second, rest = divmod(milliseconds, 1000)
    begin = _last_second
    if begin[0] != second:
        text = f'"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}'
        begin = _last_second = (second, text)
    last = _last_moment = (milliseconds, f'{begin[1]}.{rest:03d}Z"')
    return last[1]


def cut(text: str | None) -> str | None:
    """The beginning of a long text, with a mark where it was cut."""
    if text is None or len(text) <= MAX_CHARACTERS:
        return text
    return text[:MAX_CHARACTERS] + "..."


def _user_text(user: tuple[str, str] | None) -> str:
    if user is None:
        return "null"
    issuer, subject = user
    return f'{{"issuer":{_escape(issuer)},"subject":{_escape(cut(subject) or "")}}}'


def _quoted(text: str | None) -> str:
    return "null" if text is None else _escape(text)
