# SPDX-License-Identifier: Apache-2.0
"""A gRPC stream that was let in, and whether it may still go on."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any

import grpc

from kubetls_sdk.server._grpc_entry import RefusedCallError
from kubetls_sdk.server._grpc_record import record_lost_peer, record_lost_user

if TYPE_CHECKING:
    from kubetls_sdk.server._grpc_entry import Entry

__all__ = ("Admission",)


class Admission:
    """A stream that was let through.

    Args:
        entry: What let it in.
        context: gRPC's, of the call.

    Attributes:
        ended: Why the call may not go on, set when that is found out.
    """

    __slots__ = ("_code", "_context", "_entry", "_policy", "ended")

    def __init__(self, entry: Entry, context: Any) -> None:
        self._entry = entry
        self._context = context
        self._policy: Any = None  # that allowed it last; asked again, lest it changed meanwhile
        self._code = grpc.StatusCode.UNAUTHENTICATED
        self.ended: str | None = None

    def check(self) -> None:
        """Check again, between messages and before an answer, that the call may still go on.

        Raises:
            RefusedCallError: Peer or user are not trusted, or the policy does not allow it any
                more.
        """
        if self.refusal() is not None:
            raise RefusedCallError(self._code)

    def refusal(self) -> str | None:
        """Say why the call may not go on, or None; logged and counted once."""
        if self.ended is None:
            entry = self._entry
            reason = entry.gate.reason_against(entry.verdict)
            if reason is not None:
                self.ended = reason
                record_lost_peer(entry.verdict, reason, self._context)
            elif time() >= entry.user_until:
                self.ended = record_lost_user(self._context, entry)
            elif entry.gate.current_policy is not self._policy:
                self._decide_again()
        return self.ended

    def _decide_again(self) -> None:
        policy = self._entry.gate.current_policy
        self.ended = self._entry.gate.denial(policy, self._context, self._entry)
        if self.ended is None:
            self._policy = policy
        else:
            self._code = grpc.StatusCode.PERMISSION_DENIED
