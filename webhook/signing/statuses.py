# SPDX-License-Identifier: Apache-2.0
"""The statuses that the signer writes, as the API server's validation wants them.

Rules:
    1. A condition of ours is final; a request that may still be answered gets none.
    2. Denied: no certificate and no times. Issued: the times are the certificate's own.
    3. Messages are for the pod's owner; they are cut, and have no control characters.

Spec: certificates.k8s.io/v1 PodCertificateRequestStatus, CertificateSigningRequestStatus.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webhook.issuance.profile import Issued

__all__ = (
    "approved_condition",
    "condition",
    "denied_status",
    "issued_status",
    "signed_status",
    "with_status",
)

_MAX_MESSAGE = 1024
_METADATA = (
    *("name", "namespace", "uid", "resourceVersion"),
    *("labels", "annotations", "finalizers", "ownerReferences"),
)


def condition(type_: str, reason: str, message: str, *, now: datetime) -> dict[str, Any]:
    """Make a condition that holds.

    Args:
        type_: `Issued`, `Denied`, `Failed` or `Approved`.
        reason: CamelCase.
        message: For people.
        now: Aware UTC time.
    """
    clean = "".join(letter if letter.isprintable() else " " for letter in message)
    return {
        "type": type_,
        "status": "True",
        "reason": reason,
        "message": clean[:_MAX_MESSAGE],
        "lastTransitionTime": time_text(now),
    }


def issued_status(issued: Issued, *, now: datetime) -> dict[str, Any]:
    """Answer a PodCertificateRequest with a certificate."""
    return {
        "conditions": [condition("Issued", "Issued", "issued by KubeTLS", now=now)],
        "certificateChain": issued.chain_pem.decode(),
        "notBefore": time_text(issued.not_before),
        "beginRefreshAt": time_text(issued.begin_refresh_at),
        "notAfter": time_text(issued.not_after),
    }


def denied_status(reason: str, message: str, *, now: datetime) -> dict[str, Any]:
    """Refuse a PodCertificateRequest for ever."""
    return {"conditions": [condition("Denied", reason, message, now=now)]}


def signed_status(status: Mapping[str, Any], issued: Issued) -> dict[str, Any]:
    """Add the certificate to the status of a CertificateSigningRequest."""
    return {**status, "certificate": base64.b64encode(issued.chain_pem).decode()}


def approved_condition(*, now: datetime) -> dict[str, Any]:
    """Approve a CertificateSigningRequest."""
    return condition("Approved", "PolicyAllows", "the platform's policy allows it", now=now)


def with_status(request: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    """Put a status into the smallest body that the API server takes as this very request.

    UID and resourceVersion make it a compare-and-swap: whoever was faster has won. The spec is
    sent as it is: the API server keeps its own. Of a CertificateSigningRequest it keeps no label:
    whoever asked would lose sight of what we answer.
    """
    metadata = request["metadata"]
    return {
        "metadata": {field: metadata[field] for field in _METADATA if field in metadata},
        "spec": request["spec"],
        "status": dict(status),
    }


def time_text(moment: datetime) -> str:
    """Write a time as the API server reads it, in whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
