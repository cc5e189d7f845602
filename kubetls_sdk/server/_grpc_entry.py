# SPDX-License-Identifier: Apache-2.0
"""A gRPC call that was let in: by which door, who calls, and for whom.

Rules:
    1. It holds no servicer context: that one holds it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from kubetls_sdk.server._grpc_gate import Gate
    from kubetls_sdk.server._grpc_peer import PeerVerdict
    from kubetls_sdk.users.user import User

__all__ = ("ENTRY", "Entry", "RefusedCallError")

ENTRY = "kubetls_entry"
"""The attribute of a servicer context that holds the entry."""

_SAYS = {
    grpc.StatusCode.UNAUTHENTICATED: "unauthenticated",
    grpc.StatusCode.PERMISSION_DENIED: "permission denied",
}


class RefusedCallError(Exception):
    """A call that is answered without the application.

    Attributes:
        code: The status.
        details: What the caller may know.
        challenge: `www-authenticate` of an answer about the end user; it is no reason.
    """

    def __init__(
        self, code: grpc.StatusCode, details: str | None = None, *, challenge: str | None = None
    ) -> None:
        super().__init__(code)
        self.code = code
        self.details = _SAYS[code] if details is None else details
        self.challenge = challenge

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Trailing metadata of the answer."""
        return () if self.challenge is None else (("www-authenticate", self.challenge),)


class Entry:
    """A call that was let in.

    Args:
        gate: Of the server.
        method: The path as it was sent.
        verdict: Who calls.

    Attributes:
        user: Whose token came with it; None without one.
        user_until: Seconds since the epoch from which that token is not accepted any more.
    """

    __slots__ = ("gate", "method", "user", "user_until", "verdict")

    def __init__(self, gate: Gate, method: str, verdict: PeerVerdict) -> None:
        self.gate = gate
        self.method = method
        self.verdict = verdict
        self.user: User | None = None
        self.user_until = math.inf
