# SPDX-License-Identifier: Apache-2.0
"""What becomes known of the signer's work: metrics, the audit log, and Events on pods.

Rules:
    1. Each certificate and each refusal is in the audit log, with who asked and what came of it.
    2. Events are for the pod's owner: what is refused, and what they can do about it. An Event
       that says the same of each pod of a workload is written for one of them.
    3. Telling never fails the work.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from webhook import metrics

if TYPE_CHECKING:
    from datetime import datetime

    from webhook.api import EventRecorder
    from webhook.api.events import Reference
    from webhook.exceptions import IssuanceError
    from webhook.issuance.grant import Grant
    from webhook.issuance.profile import Issued
    from webhook.issuance.request import IssuanceRequest
    from webhook.signing.audit import AuditLog
    from webhook.signing.requests import PendingRequest

__all__ = ("Origin", "Record")

_MAX_TOLD: Final = 4096
_CLOCK_STEP: Final = 1.0  # The API server writes creation times in whole seconds.
_KINDS: Final = {"pod": "PodCertificateRequest", "csr": "CertificateSigningRequest"}


class Origin(NamedTuple):
    """Where a request came from.

    Attributes:
        pending: The request.
        requester: The user who made it, as the API server knows them.
        pod: Of whom it speaks, as it says itself; None where it names no pod.
        arrived: When it was seen first, on the monotonic clock.
    """

    pending: PendingRequest
    requester: str
    pod: Reference | None
    arrived: float

    @property
    def name(self) -> str:
        """Namespace and name of the request."""
        return "/".join(filter(None, self.pending.key))

    def age(self) -> float:
        """Seconds since it was made, as far as that is known."""
        seen = time.monotonic() - self.arrived
        return max(seen, time.time() - self.pending.created - _CLOCK_STEP)


class Record:
    """Tells of the work of one controller.

    Args:
        events: Where Events go.
        audit: The audit log.
        kind: Of requests: `pod` or `csr`.
    """

    def __init__(
        self, events: EventRecorder, audit: AuditLog, *, kind: Literal["pod", "csr"]
    ) -> None:
        self._events = events
        self._audit = audit
        self._told: OrderedDict[str, None] = OrderedDict()
        self.kind = kind

    async def issued(
        self,
        origin: Origin,
        request: IssuanceRequest,
        grant: Grant,
        issued: Issued,
        *,
        now: datetime,
        authority: str,
        workload: str,
    ) -> None:
        """A certificate was given out.

        Args:
            origin: Of the request.
            request: What was asked for.
            grant: What was granted.
            issued: The certificate.
            now: Aware UTC time.
            authority: Who signed.
            workload: What the pod belongs to, of which one Event is enough.
        """
        metrics.ISSUED.labels(zone=grant.zone.name, kind=self.kind).inc()
        metrics.REQUEST_SECONDS.labels(kind=self.kind).observe(origin.age())
        self._audit.issued(
            request,
            grant,
            issued,
            now=now,
            requester=origin.requester,
            kind=_KINDS[self.kind],
            name=origin.name,
            signer=authority,
        )
        if origin.pod is None:
            return
        for warning in grant.warnings:
            await self._events.event(origin.pod, "Warning", "CertificateIncomplete", warning)
        # Secret mode makes the next one as soon as a Service appears: nothing to tell.
        is_late = grant.refreshes_early and self.kind == "pod"
        if is_late and self._is_news(workload):
            await self._events.event(origin.pod, "Normal", "NoServiceYet", _no_service(issued))

    async def refused(
        self,
        origin: Origin,
        request: IssuanceRequest | None,
        error: IssuanceError,
        *,
        now: datetime,
        decision: Literal["denied", "failed"] = "denied",
    ) -> None:
        """A request was refused for ever."""
        counter = metrics.DENIED if decision == "denied" else metrics.FAILED
        counter.labels(kind=self.kind, reason=error.reason).inc()
        metrics.REQUEST_SECONDS.labels(kind=self.kind).observe(origin.age())
        self._audit.refused(
            request,
            error,
            now=now,
            requester=origin.requester,
            kind=_KINDS[self.kind],
            name=origin.name,
            decision=decision,
        )
        if origin.pod is not None:
            note = f"the signer refused a certificate for ever ({error.reason}): {error}"
            await self._events.event(origin.pod, "Warning", "CertificateDenied", note)

    async def waits(self, origin: Origin, error: IssuanceError, *, workload: str) -> None:
        """A request has been waiting for a while; tell why, once for a workload."""
        if origin.pod is not None and self._is_news(f"{error.reason} {workload}"):
            note = f"the certificate has to wait ({error.reason}): {error}"
            await self._events.event(origin.pod, "Warning", "CertificatePending", note)

    def postponed(self, reason: str) -> None:
        """A request could not be answered yet."""
        metrics.RETRIED.labels(kind=self.kind, reason=reason).inc()

    def _is_news(self, workload: str) -> bool:
        if workload in self._told:
            return False
        self._told[workload] = None
        if len(self._told) > _MAX_TOLD:
            self._told.popitem(last=False)
        return True


def _no_service(issued: Issued) -> str:
    return (
        "no Service selects this pod yet, so its certificate bears no DNS name;"
        f" the names follow with the next one, asked for soon after"
        f" {issued.begin_refresh_at:%H:%M:%S} UTC"
    )
