# SPDX-License-Identifier: Apache-2.0
"""How a request under way is ended that the policy does not allow any more, and what is written.

Rules:
    1. The audit log has the decision that ended it, whose reason begins with `ENDED`.
    2. The peer is told nothing but the end.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any, Final

from kubetls_sdk import metrics
from kubetls_sdk.server.record import record_request
from kubetls_sdk.server.refusal_log import log_refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubetls_sdk.authz import Decision
    from kubetls_sdk.server.connection import PeerConnection
    from kubetls_sdk.server.verdicts import Admission
    from kubetls_sdk.server.websocket import WebSocketSession

__all__ = ("ENDED", "end_of_response", "end_of_websocket", "end_untold", "record_end")

ENDED: Final = "ended under way"


def record_end(
    connection: PeerConnection, admission: Admission, decision: Decision, scope: Any
) -> None:
    """Write down that a request is ended by a decision; ending it is the caller's part."""
    reason = decision.reason if not decision.allowed else "its rule wants a user, and it has none"
    denied = dataclasses.replace(decision, allowed=False, reason=f"{ENDED}: {reason}")
    record_request(connection, denied, admission.method, {**scope, "path": admission.path})
    metrics.increment(metrics.CONNECTIONS_ENDED, side="server", reason="denied")
    rule = f" by rule {decision.rule!r}" if decision.rule else ""
    log_refusal(
        "request",
        f"{ENDED}: policy {decision.kind}{rule}: {reason}",
        address=connection.address,
        spiffe_id=connection.spiffe_id,
        detail=f"{admission.method!r} {admission.path!r}",
    )


def end_untold(connection: PeerConnection) -> None:
    """End a connection whose server cannot tell what runs on it: requests are queued on it."""
    connection.terminate("the policy changed, and it had sent requests before their answers")


def end_of_response(connection: PeerConnection, scope: Any) -> Callable[[], None]:
    """Make the function that ends a response: its stream, its connection, or its task."""
    task = None if connection.end is not None else asyncio.current_task()

    def end() -> None:
        """Look for the request by its scope, as streams share a connection."""
        requests = connection.requests() if connection.requests is not None else None
        for found, end_request in requests or ():
            if found is scope:
                end_request()
                return
        if connection.end is not None:
            connection.end(False)
        elif task is not None:
            task.cancel()

    return end


def end_of_websocket(connection: PeerConnection, session: WebSocketSession) -> Callable[[], None]:
    """Make the function that closes a WebSocket, whether its client agrees or not."""

    def end() -> None:
        """Say goodbye first, so that a client that listens knows why."""
        session.end("denied")
        if connection.end is not None:
            connection.end(True)

    return end
