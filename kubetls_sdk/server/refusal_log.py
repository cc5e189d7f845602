# SPDX-License-Identifier: Apache-2.0
"""The log lines about refused peers and requests: one line each, and never a flood of them.

Rules:
    1. Everything goes to the logger `kubetls_sdk.server`, at WARNING, with the same values as
       attributes of the record: `event`, `address`, `spiffe_id`, `reason`.
    2. A peer cannot fill the disk: beyond a burst, lines of one event are counted, and the next
       line that is written says how many were not.
    3. Text that came from a peer is written with `repr`, so it cannot break or fake a line.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Literal

from kubetls_sdk import audit, metrics
from kubetls_sdk.exceptions import PeerUnauthorizedError

if TYPE_CHECKING:
    from kubetls_sdk.exceptions import PeerError
    from kubetls_sdk.spiffe_id import SpiffeId

__all__ = (
    "LogQuota",
    "adopt_handlers",
    "count_handshake",
    "log",
    "log_refusal",
    "log_refused_peer",
)

log = logging.getLogger("kubetls_sdk.server")


class LogQuota:
    """How many lines of one kind may be written.

    Args:
        burst: Lines that may be written at once.
        per_second: How fast the burst is regained.
    """

    __slots__ = ("_at", "_burst", "_left", "_per_second", "suppressed")

    def __init__(self, burst: int = 50, per_second: float = 10.0) -> None:
        self._burst = float(burst)
        self._per_second = per_second
        self._left = float(burst)
        self._at = time.monotonic()
        self.suppressed = 0

    def take(self) -> bool:
        """Take one line; False when none is left."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1.0:
            self.suppressed += 1
            return False
        self._left -= 1.0
        return True


_quotas: dict[str, LogQuota] = {}


def log_refusal(
    event: Literal["handshake", "connection", "request"],
    reason: str,
    *,
    address: str,
    spiffe_id: SpiffeId | None = None,
    detail: str = "",
) -> None:
    """Write one line about something that was refused, and the audit record of all but requests.

    Args:
        event: `handshake`, `connection` or `request`.
        reason: One clause of ours.
        address: Of the peer.
        spiffe_id: The identity that the peer proved, or only claims when the event is
            `handshake`.
        detail: More about a request: its method and path, through `repr`.
    """
    if event != "request":  # who refuses a request knows more about it
        audit.record(event, allowed=False, peer=address, spiffe_id=spiffe_id, reason=reason)
    quota = _quotas.get(event) or _quotas.setdefault(event, LogQuota())
    if not quota.take():
        return
    missed, quota.suppressed = quota.suppressed, 0
    log.warning(
        "refused %s of %s%s%s: %s%s",
        event,
        address,
        _who(event, spiffe_id),
        f" {detail}" if detail else "",
        reason,
        f" ({missed} more such lines were not written)" if missed else "",
        extra={"event": event, "address": address, "spiffe_id": _text(spiffe_id), "reason": reason},
    )


def adopt_handlers(of: str) -> None:
    """Write our lines where the server's own go, unless somebody has configured ours.

    Args:
        of: Name of the server's logger.
    """
    ours = logging.getLogger("kubetls_sdk")
    configured = [*ours.handlers, *log.handlers, *logging.root.handlers]
    if all(isinstance(handler, logging.NullHandler) for handler in configured):
        for handler in logging.getLogger(of).handlers:
            ours.addHandler(handler)


def log_refused_peer(err: PeerError) -> None:
    """Log and count a handshake that the event loop does, which tells nobody the address."""
    is_unauthorized = isinstance(err, PeerUnauthorizedError)
    count_handshake("refused", "unauthorized" if is_unauthorized else "unverified")
    reason, spiffe_id = getattr(err, "reason", str(err)), getattr(err, "spiffe_id", None)
    log_refusal("handshake", reason, address="a peer", spiffe_id=spiffe_id)


def count_handshake(result: str, reason: str = "") -> None:
    """Count a handshake in the metrics, by result and a reason code of ours."""
    metrics.increment(metrics.HANDSHAKES, side="server", result=result, reason=reason)


def _who(event: str, spiffe_id: SpiffeId | None) -> str:
    if spiffe_id is None:
        return ""
    return f" that claims {str(spiffe_id)!r}" if event == "handshake" else f" ({spiffe_id})"


def _text(spiffe_id: SpiffeId | None) -> str | None:
    return None if spiffe_id is None else str(spiffe_id)
