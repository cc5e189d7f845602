# SPDX-License-Identifier: Apache-2.0
"""The audit log: who asked for what, who they proved to be, and which rule decided.

Off until `enable` is called. Each record is one line of JSON with the fields of `AuditRecord`, on
the logger `kubetls.audit`: INFO for what was allowed, WARNING for what was refused.

Rules:
    1. Names of fields, events and decisions are part of the public interface and only added to.
    2. What was allowed may be sampled, what was refused never is.
    3. No header, query string, body, key or token is in it. Control characters are escaped, and
       long texts cut, so that no peer can fake a line or fill a disk with one.
    4. Disabled, a call costs one check of a module global. Enabled, it never raises into a request.
"""

from __future__ import annotations

import logging
import random
import sys
import threading
from time import time
from typing import TYPE_CHECKING, Any

from kubetls_sdk._audit_line import MAX_CHARACTERS, around, cut, line
from kubetls_sdk._audit_record import AuditRecord, Event, Verdict
from kubetls_sdk.checks import decided
from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from kubetls_sdk.checks import Checks
    from kubetls_sdk.spiffe_id import SpiffeId

__all__ = (
    "LOGGER",
    "MAX_CHARACTERS",
    "AuditRecord",
    "Event",
    "Verdict",
    "disable",
    "enable",
    "is_enabled",
    "record",
    "record_decision",
)

LOGGER = "kubetls.audit"
_MAX_PARTS = 1024
_log = logging.getLogger(LOGGER)
_random = random.Random()  # noqa: S311 - picks which allowed requests are written, nothing secret


class Recorder:
    """Where the lines go.

    A plain stream or file handler that nobody shares gets its lines directly: `logging` would
    spend several times what the line itself costs.
    """

    def __init__(self, handler: Any, sample_allowed: float) -> None:
        self.handler = handler
        self.sample_allowed = sample_allowed
        self._parts: dict[tuple[object, ...], tuple[str, str]] = {}
        self._is_plain = (
            type(handler) in (logging.StreamHandler, logging.FileHandler)
            and handler.formatter is None
            and not handler.filters
            and handler.level == logging.NOTSET
            and (handler.stream is None or hasattr(handler.stream, "flush"))
        )

    def is_direct(self) -> bool:
        """Whether the next line can be written without `logging`."""
        handler = self.handler
        return (
            self._is_plain
            and len(_log.handlers) == 1
            and not _log.filters
            and handler.stream is not None
        )

    def write(self, entry: AuditRecord, level: int) -> None:
        """Write one record; whatever goes wrong is the handler's to report."""
        if self.is_direct():
            self.write_line(line(entry, self._around(entry)) + "\n")
        else:
            # Made by hand: finding the calling line, as Logger.log does, costs more than the rest.
            _log.handle(logging.LogRecord(LOGGER, level, "", 0, entry, None, None))

    def write_line(self, text: str) -> None:
        """Write a line, with its end; only where `is_direct`."""
        handler = self.handler
        with handler.lock:
            try:
                stream = handler.stream
                stream.write(text)
                stream.flush()
            except (AttributeError, OSError, ValueError):
                handler.handleError(
                    logging.LogRecord(LOGGER, logging.INFO, "", 0, text, None, None)
                )

    def _around(self, entry: AuditRecord) -> tuple[str, str]:
        # All but time and path; the text of the checks, whose own hash is slow.
        key = (*entry[1:7], *entry[8:16], entry.checks and entry.checks.text, entry.forwarded)
        found = self._parts.get(key)
        if found is None:
            if len(self._parts) >= _MAX_PARTS:
                self._parts = {}
            found = self._parts[key] = around(entry)
        return found


_recorder: Recorder | None = None
_enabling = threading.Lock()


def enable(handler: logging.Handler | None = None, *, sample_allowed: float = 1.0) -> None:
    """Start the audit log, or change where it goes.

    Args:
        handler: Where the lines go; standard output by default. Its formatter, when it has one,
            gets a message that is an `AuditRecord`.
        sample_allowed: The share of allowed requests that is written, from 0 (none) to 1 (all).
            What is refused is always written.

    Raises:
        ConfigurationError: The share is out of range.
    """
    global _recorder  # noqa: PLW0603 - the one check that a disabled audit log costs
    if not 0.0 <= sample_allowed <= 1.0:
        raise ConfigurationError(f"expected sample_allowed from 0 to 1, got {sample_allowed!r}")
    chosen = handler if handler is not None else logging.StreamHandler(sys.stdout)
    with _enabling:
        if _recorder is not None:
            _log.removeHandler(_recorder.handler)
        _log.addHandler(chosen)
        _log.setLevel(logging.INFO)
        _log.propagate = False
        _recorder = Recorder(chosen, sample_allowed)


def disable() -> None:
    """Stop the audit log. The handler is not closed: it is its maker's."""
    global _recorder  # noqa: PLW0603 - see `enable`
    with _enabling:
        if _recorder is not None:
            _log.removeHandler(_recorder.handler)
            _log.propagate = True
        _recorder = None


def is_enabled() -> bool:
    """Tell whether anything is recorded, for callers whose values cost something to compute."""
    return _recorder is not None


def record(
    event: Event,
    *,
    allowed: bool,
    peer: str | None = None,
    spiffe_id: SpiffeId | None = None,
    verified: bool = False,
    method: str | None = None,
    path: str | None = None,
    policy: str | None = None,
    rule: str | None = None,
    reason: str | None = None,
    shadow: bool | None = None,
    generation: int | None = None,
    tls: str | None = None,
    user: tuple[str, str] | None = None,
    checks: Checks | None = None,
    forwarded: str | None = None,
) -> None:
    """Write a record; the arguments are the fields of `AuditRecord`, `allowed` its `decision`."""
    recorder = _recorder
    if recorder is None:
        return
    sample = recorder.sample_allowed if allowed else 1.0
    if is_left_out(sample):
        return
    recorder.write(
        AuditRecord(
            time(),
            event,
            _word(allowed),
            peer,
            cut(None if spiffe_id is None else str(spiffe_id)),
            verified,
            cut(method),
            cut(path),
            policy,
            rule,
            cut(reason),
            None if shadow is None else _word(shadow),
            generation,
            sample,
            tls,
            user,
            checks,
            cut(forwarded),
        ),
        logging.INFO if allowed else logging.WARNING,
    )


def record_decision(
    event: Event,
    decision: Verdict,
    *,
    peer: str,
    spiffe_id: SpiffeId | str | None,
    method: str,
    path: str,
    generation: int,
    tls: str | None = None,
    user: tuple[str, str] | None = None,
    is_user_asked: bool = False,
    forwarded: str | None = None,
) -> None:
    """Write what a policy said about one call of a verified or anonymous peer."""
    recorder = _recorder
    if recorder is None:
        return
    sample = recorder.sample_allowed if decision.allowed else 1.0
    if is_left_out(sample):
        return
    entry = decision_record(
        event,
        decision,
        peer=peer,
        spiffe_id=spiffe_id,
        method=method,
        path=path,
        generation=generation,
        sample=sample,
        tls=tls,
        user=user,
        is_user_asked=is_user_asked,
        forwarded=forwarded,
    )
    recorder.write(entry, logging.INFO if decision.allowed else logging.WARNING)


def decision_record(
    event: Event,
    decision: Verdict,
    *,
    peer: str,
    spiffe_id: SpiffeId | str | None,
    method: str,
    path: str,
    generation: int,
    sample: float,
    tls: str | None,
    user: tuple[str, str] | None = None,
    is_user_asked: bool = False,
    forwarded: str | None = None,
) -> AuditRecord:
    """Make the record of what a policy said, now; nothing is written."""
    allowed, shadow, is_known = decision.allowed, decision.shadow, spiffe_id is not None
    return AuditRecord(
        time(),
        event,
        _word(allowed),
        peer,
        cut(str(spiffe_id)) if is_known else None,
        is_known,
        cut(method),
        cut(path),
        decision.policy,
        decision.rule,
        cut(decision.reason),
        None if shadow is None else _word(shadow.allowed),
        generation,
        sample,
        tls,
        user,
        decided(allowed, is_known, user is not None, is_user_asked),
        cut(forwarded),
    )


def is_left_out(sample: float) -> bool:
    """Whether chance leaves a record out, of which only a share is written."""
    return sample < 1.0 and _random.random() >= sample


def _word(allowed: bool) -> str:
    return "allow" if allowed else "deny"
