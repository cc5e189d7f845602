# SPDX-License-Identifier: Apache-2.0
"""Answers PodCertificateRequests.

The usual way: watch event, decision, signature, one PUT of the status. Nothing else is asked of the
API server.

Rules:
    1. Every attempt begins with the request as it is now: what was settled meanwhile, or is gone,
       is done. The PUT is a compare-and-swap, so a lost race changes nothing.
    2. `Denied` ends the pod's hope for ever: only a final refusal leads to it. `Failed` is never
       written. Everything else stays pending and is tried again, as long as the request exists.
    3. A request of a running pod is a renewal; it goes by the expiry of what the pod has.
    4. Nothing is remembered that matters: after a restart, the first list brings all requests back.

Spec: certificates.k8s.io/v1 PodCertificateRequest.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from webhook import metrics
from webhook.api import ApiError, ConflictError, NotFoundError
from webhook.api.events import Reference
from webhook.api.resources import POD_CERTIFICATE_REQUESTS_V1BETA1
from webhook.exceptions import IssuanceError
from webhook.issuance.request import from_pod_certificate_request
from webhook.signing.record import Origin
from webhook.signing.requests import PendingRequest, RequestWatch
from webhook.signing.shares import Shares
from webhook.signing.statuses import denied_status, issued_status, with_status
from webhook.signing.worklist import Again, Lane, Worklist

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from webhook.api import Api, Pod, Resource
    from webhook.issuance.request import IssuanceRequest
    from webhook.signing.record import Record
    from webhook.signing.requests import Key
    from webhook.signing.shares import Replicas
    from webhook.signing.signer import Signer

__all__ = ("PodCertificates",)

_log = logging.getLogger(__name__)


class PodCertificates:
    """The controller of pod certificate requests.

    Args:
        api: Where the requests are.
        resource: The version of PodCertificateRequest to speak.
        signer: Decides and signs.
        replicas: Among which the requests are divided.
        record: Metrics, Events and audit log.
        limit: How many answers are under way at once.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        *,
        signer: Signer,
        replicas: Replicas,
        record: Record,
        limit: int = 32,
    ) -> None:
        self._api = api
        self._signer = signer
        self._record = record
        self._expiries: dict[str, float] = {}
        self._awaited: dict[Key, set[Key]] = {}
        self._arrivals: dict[Key, float] = {}
        self.requests = RequestWatch(api, resource, PendingRequest.of_pod, self._changed)
        self.worklist: Worklist[Key] = Worklist(
            self._answer,
            limit=limit,
            waited=metrics.QUEUE_SECONDS.labels(queue=record.kind).observe,
        )
        metrics.PENDING.labels(kind=record.kind).set_function(self.worklist.__len__)
        metrics.QUEUE.labels(queue=record.kind).set_function(lambda: self.worklist.waiting)
        self.shares = Shares(replicas, self.requests, self._offer)
        signer.pods.subscribe(self._pod_changed)

    def _changed(self, old: PendingRequest | None, new: PendingRequest | None) -> None:
        if new is None or new.is_settled:
            self._forget(old or new)
        elif self.shares.has(new):
            self._offer(new)
        if new is not None and new.not_after is not None:
            self._expiries[new.subject_uid] = new.not_after

    def _forget(self, request: PendingRequest | None) -> None:
        if request is not None:
            self.worklist.forget(request.key)
            self._arrivals.pop(request.key, None)

    def _offer(self, request: PendingRequest) -> None:
        self._arrivals.setdefault(request.key, time.monotonic())
        pod = self._signer.pods.get(request.key[0], _pod_name(request))
        is_renewal = pod is not None and pod.phase == "Running"
        self.worklist.add(
            request.key,
            lane=Lane.RENEWAL if is_renewal else Lane.NEW,
            deadline=self._expiries.get(request.subject_uid),
        )

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if new is None:
            if old is not None:
                self._expiries.pop(old.uid, None)
                self._awaited.pop((old.namespace, old.name), None)
            return
        for key in self._awaited.pop((new.namespace, new.name), ()):
            self.worklist.hurry(key)

    async def _answer(self, key: Key, attempt: int) -> None:
        pending = self.requests.get(key)
        if pending is None or pending.body is None or not self.shares.has(pending):
            return
        request = None
        try:
            request = from_pod_certificate_request(await self._readable(pending.body))
            await self._issue(pending, request, attempt)
        except IssuanceError as err:
            await self._refuse(pending, request, err)
        except Again:
            self._awaited.setdefault((key[0], _pod_name(pending)), set()).add(key)
            raise

    async def _issue(self, pending: PendingRequest, request: IssuanceRequest, attempt: int) -> None:
        with metrics.ISSUE_SECONDS.time():
            grant = await self._signer.decide(request, attempt=attempt)
            issued, authority = self._signer.issue(grant)
        now = self._signer.now()
        if await self._put(pending, issued_status(issued, now=now)):
            pod = self._signer.pods.get(request.namespace, request.pod_name)
            await self._record.issued(
                self._origin(pending),
                request,
                grant,
                issued,
                now=now,
                authority=authority,
                workload=(pod and pod.owner_uid) or request.pod_uid,
            )

    async def _refuse(
        self, pending: PendingRequest, request: IssuanceRequest | None, err: IssuanceError
    ) -> None:
        if err.is_retryable:
            self._record.postponed(err.reason)
            raise Again(str(err)) from err
        now = self._signer.now()
        if await self._put(pending, denied_status(err.reason, str(err), now=now)):
            await self._record.refused(self._origin(pending), request, err, now=now)

    def _origin(self, pending: PendingRequest) -> Origin:
        spec = (pending.body or {})["spec"]
        pod = Reference("v1", "Pod", spec["podName"], pending.key[0], spec["podUID"])
        arrived = self._arrivals.get(pending.key, time.monotonic())
        return Origin(pending, f"system:node:{spec['nodeName']}", pod, arrived)

    async def _readable(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The request with its key: what a kubelet of 1.35 wrote is only visible in v1beta1."""
        if body["spec"].get("stubPKCS10Request") or self.requests.resource.version != "v1":
            return body
        metadata = body["metadata"]
        try:
            return await self._api.get(
                POD_CERTIFICATE_REQUESTS_V1BETA1,
                metadata["name"],
                namespace=metadata["namespace"],
            )
        except ApiError as err:
            self._record.postponed("OldNode")
            raise Again(f"a node of 1.35 needs v1beta1 to be served: {err}") from err

    async def _put(self, pending: PendingRequest, status: Mapping[str, Any]) -> bool:
        """Write the answer; tell whether it was ours that counts."""
        body = with_status(pending.body or {}, status)
        try:
            await self._api.replace(self.requests.resource, body, subresource="status")
        except NotFoundError:
            return False
        except ConflictError as err:
            self._record.postponed("LostRace")
            raise Again("another replica was faster, or the object changed") from err
        except ApiError as err:
            self._record.postponed(err.reason or "Unreachable")
            if not err.is_retryable:
                _log.error("the API server refuses an answer, to be tried again: %s", err)
            raise Again(str(err), at_least=err.retry_after or 0.0) from err
        return True


def _pod_name(request: PendingRequest) -> str:
    name: str = (request.body or {"spec": {"podName": ""}})["spec"]["podName"]
    return name
