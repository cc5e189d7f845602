# SPDX-License-Identifier: Apache-2.0
"""Approves and answers CertificateSigningRequests to our signers; approves those to external ones.

Rules:
    1. Who asked is `requester`; what they get is decided as for every other request.
    2. An `Approved` that somebody wrote is no proof: the decision is made again before signing. A
       request that was approved and may not be is `Failed`, any other `Denied`; both are final.
    3. The secret issuer gets certificates only for pods that carry our injection in Secret mode,
       where the namespace may have that; a pod for itself only where it may have the CSI mode, in
       which the node's driver asks with the pod's own token.
    4. Our own signer wants a request with nothing but a key. An external signer takes the names
       from the request, so there they must equal what was granted before we approve; it may have
       other users, whose requests are left alone: ours are those of the secret issuer, and those
       that bear the label of a node, as its driver writes it.
    5. Usages are exactly those of the profile.

Spec: certificates.k8s.io/v1 CertificateSigningRequest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from webhook.api.events import Reference
from webhook.api.resources import CERTIFICATE_SIGNING_REQUESTS
from webhook.config import Mode
from webhook.exceptions import IssuanceError
from webhook.issuance.allowed_mode import check_mode
from webhook.issuance.evaluation import NOT_ALLOWED, POD_TERMINAL
from webhook.names import NODE_LABEL
from webhook.secrets.injection import secret_name, zone_of_pod
from webhook.signing.inbox import Inbox
from webhook.signing.record import Origin
from webhook.signing.requester import Requester
from webhook.signing.requests import PendingRequest
from webhook.signing.statuses import approved_condition, condition, signed_status
from webhook.signing.wire_request import read_request
from webhook.signing.worklist import Again, Lane

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webhook.api import Api, Pod
    from webhook.config import PlatformConfig, Zone
    from webhook.issuance.grant import Grant
    from webhook.issuance.request import IssuanceRequest
    from webhook.signing.record import Record
    from webhook.signing.shares import Replicas
    from webhook.signing.signer import Signer

__all__ = ("SigningRequests",)


class SigningRequests:
    """The controller of certificate signing requests.

    Args:
        api: Where the requests are.
        signer: Decides and signs.
        replicas: Among which the requests are divided.
        record: Metrics, Events and audit log.
        secret_issuer: User name of the secret issuer's account; empty: there is none.
        limit: How many answers are under way at once.

    Attributes:
        inbox: The requests; run its `shares`, and let its `requests` follow the signer names.
    """

    def __init__(
        self,
        api: Api,
        *,
        signer: Signer,
        replicas: Replicas,
        record: Record,
        secret_issuer: str,
        limit: int = 32,
    ) -> None:
        self._signer = signer
        self._record = record
        self._secret_issuer = secret_issuer
        self.inbox = Inbox(
            api,
            CERTIFICATE_SIGNING_REQUESTS,
            parse=self._parse,
            answer=self._answer,
            order=self._order,
            replicas=replicas,
            record=record,
            limit=limit,
            is_for_external=True,
        )

    def _parse(self, body: Mapping[str, Any]) -> PendingRequest | None:
        config, spec = self._signer.configuration.current, body["spec"]
        is_ours = config.zone_of_signer(spec["signerName"]) is not None
        if not is_ours and not self._is_of_ours(body):
            return None
        return PendingRequest.of_signing(body, is_ours=is_ours)

    def _is_of_ours(self, body: Mapping[str, Any]) -> bool:
        """Whether the secret issuer or a node's driver made a request to somebody else's signer."""
        labels = body["metadata"].get("labels") or {}
        return NODE_LABEL in labels or body["spec"].get("username") == self._secret_issuer

    def _order(self, pending: PendingRequest) -> tuple[Lane, float | None, str]:
        """A pod can make as many requests as it likes: they are in its own way, in no other's."""
        try:
            requester = self._requester(pending)
        except IssuanceError:
            return Lane.NEW, None, (pending.body or {})["spec"].get("username") or ""
        pod = self._signer.pods.get(requester.namespace, requester.pod_name)
        is_running = pod is not None and pod.phase == "Running"
        return (Lane.RENEWAL if is_running else Lane.NEW), None, requester.pod_uid

    async def _answer(self, pending: PendingRequest, attempt: int) -> None:
        request = None
        try:
            requester = self._requester(pending)
            pod = await self._pod_of(requester, attempt)
            zone = _zone_of(pending, pod, self._signer.configuration.current)
            request, named = read_request(pending.body or {}, requester, pod, zone)
            grant = await self._signer.decide(request, attempt=attempt)
            if named is not None:
                named.check(grant)
            await self._grant(pending, request, grant)
        except IssuanceError as err:
            await self._refuse(pending, request, err)

    def _requester(self, pending: PendingRequest) -> Requester:
        return Requester.of(pending.body or {}, secret_issuer=self._secret_issuer)

    async def _pod_of(self, requester: Requester, attempt: int) -> Pod:
        """The pod that a request is for, in a mode in which the requester may ask."""
        known = self._signer.pods.get(requester.namespace, requester.pod_name)
        if known is not None and known.uid == requester.pod_uid and attempt == 0:
            try:
                self._check_mode(requester, known, self._signer.configuration.current)
            except IssuanceError:
                known = None  # A refusal is for ever: look afresh.
            else:
                return known
        pod = await self._signer.read_pod(requester.namespace, requester.pod_name)
        if pod is None or pod.uid != requester.pod_uid:
            raise IssuanceError("the pod is gone", reason=POD_TERMINAL)
        self._check_mode(requester, pod, await self._signer.configuration.fresh())
        return pod

    def _check_mode(self, requester: Requester, pod: Pod, config: PlatformConfig) -> None:
        if requester.is_on_behalf:
            secret_name(pod, config)
        else:
            check_mode(pod.namespace, Mode.CSI, config)

    async def _grant(self, pending: PendingRequest, request: IssuanceRequest, grant: Grant) -> None:
        body: Mapping[str, Any] = pending.body or {}
        is_external = grant.zone.external_signer is not None
        signed = None if is_external else self._signer.issue(grant)
        now = self._signer.now()
        if not _is_approved(body):
            status = _with_condition(body, approved_condition(now=now))
            body = await self.inbox.put(body, status, subresource="approval") or {}
        if not body or signed is None:
            return
        issued, authority = signed
        status = signed_status(body.get("status") or {}, issued)
        if await self.inbox.put(body, status) is not None:
            await self._record.issued(
                self._origin(pending, request),
                request,
                grant,
                issued,
                now=now,
                authority=authority,
                workload=request.pod_uid,
            )

    async def _refuse(
        self, pending: PendingRequest, request: IssuanceRequest | None, err: IssuanceError
    ) -> None:
        if err.is_retryable:
            self._record.postponed(err.reason)
            raise Again(str(err)) from err
        body, now = pending.body or {}, self._signer.now()
        # Approved and Denied exclude each other, and neither can be taken back.
        is_failure = _is_approved(body)
        verdict = condition("Failed" if is_failure else "Denied", err.reason, str(err), now=now)
        subresource = "status" if is_failure else "approval"
        status = _with_condition(body, verdict)
        if await self.inbox.put(body, status, subresource=subresource) is not None:
            origin = self._origin(pending, request)
            decision: Literal["failed", "denied"] = "failed" if is_failure else "denied"
            await self._record.refused(origin, request, err, now=now, decision=decision)

    def _origin(self, pending: PendingRequest, request: IssuanceRequest | None) -> Origin:
        pod = None
        if request is not None:
            pod = Reference("v1", "Pod", request.pod_name, request.namespace, request.pod_uid)
        requester = (pending.body or {})["spec"].get("username") or ""
        return Origin(pending, requester, pod, self.inbox.arrived(pending))


def _zone_of(pending: PendingRequest, pod: Pod, config: PlatformConfig) -> Zone:
    """The zone that a signer name stands for: one of ours, or the pod's with that external signer.

    Raises:
        IssuanceError: Neither; final.
    """
    name = (pending.body or {})["spec"]["signerName"]
    if (zone := config.zone_of_signer(name)) is not None:
        return zone
    zone = zone_of_pod(pod, config)
    if zone.external_signer != name:
        raise IssuanceError(f"signer {name!r} does not sign for this pod", reason=NOT_ALLOWED)
    return zone


def _conditions(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list((body.get("status") or {}).get("conditions") or ())


def _is_approved(body: Mapping[str, Any]) -> bool:
    return any(each.get("type") == "Approved" for each in _conditions(body))


def _with_condition(body: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    return {**(body.get("status") or {}), "conditions": [*_conditions(body), added]}
