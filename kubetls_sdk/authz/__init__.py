# SPDX-License-Identifier: Apache-2.0
"""Authorization: who may call what, decided without TLS, files or frameworks.

An edge asks in three steps::

    reason = refusal(method, path, raw_path, host_count)       # 400, before any policy
    decision = policies.decide(caller, method, path, details)  # 403 unless .allowed

For a WebSocket handshake `method` is `WEBSOCKET`, for a gRPC call `GRPC`: pseudo-methods that no
HTTP request can spell.
"""

from __future__ import annotations

from .canonical import refusal
from .decision import Decision, Kind
from .details import ACTION, GRPC, NO_DETAILS, WEBSOCKET, Details, RequestDetails
from .policy_set import PolicySet

__all__ = (
    "ACTION",
    "GRPC",
    "NO_DETAILS",
    "WEBSOCKET",
    "Decision",
    "Details",
    "Kind",
    "PolicySet",
    "RequestDetails",
    "refusal",
)
