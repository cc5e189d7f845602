# SPDX-License-Identifier: Apache-2.0
"""Answers PodCertificateRequests.

The usual way: watch event, decision, signature, one PUT of the status. Nothing else is asked of the
API server.

Rules:
    1. `Denied` ends the pod's hope for ever: only a final refusal leads to it. `Failed` is never
       written. Everything else stays pending and is tried again, as long as the request exists.
    2. A request of a running pod is a renewal; it goes by the expiry of what the pod has.
    3. A request that waits for its pod is tried again when the pod is seen.

Spec: certificates.k8s.io/v1 PodCertificateRequest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from webhook import metrics
from webhook.api import ApiError
from webhook.api.events import Reference
from webhook.api.resources import POD_CERTIFICATE_REQUESTS_V1BETA1
from webhook.exceptions import IssuanceError
from webhook.issuance.request import from_pod_certificate_request
from webhook.signing.inbox import Inbox
from webhook.signing.record import Origin
from webhook.signing.requests import PendingRequest
from webhook.signing.statuses import denied_status, issued_status
from webhook.signing.worklist import Again, Lane

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webhook.api import Api, Pod, Resource
    from webhook.issuance.request import IssuanceRequest
    from webhook.signing.record import Record
    from webhook.signing.requests import Key
    from webhook.signing.shares import Replicas
    from webhook.signing.signer import Signer

__all__ = ("PodCertificates",)

_ATTEMPTS_IN_SILENCE: Final = 5  # Some seconds.


class PodCertificates:
    """The controller of pod certificate requests.

    Args:
        api: Where the requests are.
        resource: The version of PodCertificateRequest to speak.
        signer: Decides and signs.
        replicas: Among which the requests are divided.
        record: Metrics, Events and audit log.
        limit: How many answers are under way at once.

    Attributes:
        inbox: The requests; run its `shares`, and let its `requests` follow the signer names.
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
        self._awaiting: dict[Key, set[Key]] = {}
        self.inbox = Inbox(
            api,
            resource,
            parse=self._parse,
            answer=self._answer,
            order=self._order,
            replicas=replicas,
            record=record,
            limit=limit,
        )
        signer.pods.subscribe(self._pod_changed)

    def _parse(self, body: Mapping[str, Any]) -> PendingRequest:
        request = PendingRequest.of_pod(body)
        is_known = self._signer.pods.get(request.key[0], body["spec"]["podName"]) is not None
        if request.not_after is not None and is_known:
            self._expiries[request.subject_uid] = request.not_after
        return request

    def _order(self, pending: PendingRequest) -> tuple[Lane, float | None, str]:
        pod = self._signer.pods.get(pending.key[0], _spec(pending)["podName"])
        is_running = pod is not None and pod.phase == "Running"
        lane = Lane.RENEWAL if is_running else Lane.NEW
        return lane, self._expiries.get(pending.subject_uid), pending.subject_uid

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        if pod is None:
            return
        for key in self._awaiting.pop((pod.namespace, pod.name), ()):
            self.inbox.worklist.hurry(key)
        if new is None:
            self._expiries.pop(pod.uid, None)

    async def _answer(self, pending: PendingRequest, attempt: int) -> None:
        request = None
        try:
            request = from_pod_certificate_request(await self._readable(pending))
            await self._issue(pending, request, attempt)
        except IssuanceError as err:
            await self._refuse(pending, request, err, attempt)
        except Again:
            name = (pending.key[0], _spec(pending)["podName"])
            self._awaiting.setdefault(name, set()).add(pending.key)
            raise

    async def _issue(self, pending: PendingRequest, request: IssuanceRequest, attempt: int) -> None:
        with metrics.ISSUE_SECONDS.time():
            grant = await self._signer.decide(request, attempt=attempt)
            issued, authority = self._signer.issue(grant)
        now = self._signer.now()
        status = issued_status(issued, now=now)
        if await self.inbox.put(pending.body or {}, status) is None:
            return
        await self._record.issued(
            self._origin(pending),
            request,
            grant,
            issued,
            now=now,
            authority=authority,
            workload=self._workload(pending),
        )

    async def _refuse(
        self,
        pending: PendingRequest,
        request: IssuanceRequest | None,
        err: IssuanceError,
        attempt: int,
    ) -> None:
        if err.is_retryable:
            self._record.postponed(err.reason)
            if attempt == _ATTEMPTS_IN_SILENCE:
                workload = self._workload(pending)
                await self._record.waits(self._origin(pending), err, workload=workload)
            raise Again(str(err)) from err
        now = self._signer.now()
        status = denied_status(err.reason, str(err), now=now)
        if await self.inbox.put(pending.body or {}, status) is not None:
            await self._record.refused(self._origin(pending), request, err, now=now)

    def _workload(self, pending: PendingRequest) -> str:
        """What the pod belongs to, of which one Event is enough."""
        pod = self._signer.pods.get(pending.key[0], _spec(pending)["podName"])
        return (pod and pod.owner_uid) or pending.subject_uid

    def _origin(self, pending: PendingRequest) -> Origin:
        spec = _spec(pending)
        pod = Reference("v1", "Pod", spec["podName"], pending.key[0], spec["podUID"])
        requester = f"system:node:{spec['nodeName']}"
        return Origin(pending, requester, pod, self.inbox.arrived(pending))

    async def _readable(self, pending: PendingRequest) -> Mapping[str, Any]:
        """The request with its key: what a kubelet of 1.35 wrote is only visible in v1beta1."""
        body = pending.body or {}
        if body["spec"].get("stubPKCS10Request") or self.inbox.resource.version != "v1":
            return body
        namespace, name = pending.key
        try:
            return await self._api.get(POD_CERTIFICATE_REQUESTS_V1BETA1, name, namespace=namespace)
        except ApiError as err:
            self._record.postponed("OldNode")
            raise Again(f"a node of 1.35 needs v1beta1 to be served: {err}") from err


def _spec(pending: PendingRequest) -> Mapping[str, Any]:
    spec: Mapping[str, Any] = (pending.body or {})["spec"]
    return spec
