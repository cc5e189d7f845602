# SPDX-License-Identifier: Apache-2.0
"""Asks for a certificate as the pod itself, with the pod's own token and nothing else.

So the API server proves who asks: it writes the account, the pod and the node that the token is
bound to into the request, and neither this node nor the pod has a say in that.

Rules:
    1. A token goes to the API server, over connections that know nobody of ours, and nowhere else.
    2. What the API server says of the token must be what the kubelet said of the pod: a token of
       another pod gets no further.
    3. Requests are named by us, at random, and only answers that are waited for are looked at.
    4. Nothing is deleted, as neither pods nor this node may: the controller manager's cleaner
       removes a request an hour after its answer.

Spec: certificates.k8s.io/v1 CertificateSigningRequest; KEP-4193 (bound tokens).
"""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING, Any, Final, Never

from webhook.api import ApiError, ForbiddenError, Informer
from webhook.api.resources import CERTIFICATE_SIGNING_REQUESTS
from webhook.delivery.answer import Answer, Answers
from webhook.exceptions import IssuanceError
from webhook.issuance.evaluation import POD_MISMATCH
from webhook.names import NODE_LABEL
from webhook.signing.requester import Requester
from webhook.signing.wire_request import USAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webhook.api import Api
    from webhook.issuance.grant import Grant
    from webhook.node.publication import PodReference

__all__ = ("MAY_NOT_ASK", "TOKEN_REFUSED", "PodCertifier")

TOKEN_REFUSED: Final = "TokenRefused"  # noqa: S105 - a reason
MAY_NOT_ASK: Final = "MayNotAsk"
_UNAUTHORIZED: Final = 401
_PREFIX: Final = "kubetls-"


class PodCertifier:
    """Asks signers for the pods of one node.

    Args:
        api: The API server, as the node driver's own account, which sees the answers.
        guests: The same, as nobody: each request has its pod's token.
        node_name: Of this node; the label of its requests.
        patience_seconds: How long an answer is waited for.

    Attributes:
        requests: Of this node; to be run.
    """

    def __init__(
        self, api: Api, guests: Api, node_name: str, *, patience_seconds: float = 30.0
    ) -> None:
        self._guests = guests
        self._node_name = node_name
        self._answers = Answers(patience_seconds)
        self.requests: Informer[Never] = Informer(
            api,
            CERTIFICATE_SIGNING_REQUESTS,
            self._hear,
            label_selector=f"{NODE_LABEL}={node_name}",
        )

    async def certify(
        self, pod: PodReference, token: str, grant: Grant, request_pem: bytes
    ) -> bytes:
        """Ask, and return what came back, PEM.

        Args:
            pod: Who asks.
            token: The pod's.
            grant: What shall be signed.
            request_pem: PKCS#10.

        Raises:
            IssuanceError: Refused, no answer in time, or not the pod's token.
            ApiError: The API server did not take the request.
        """
        name = f"{_PREFIX}{secrets.token_hex(10)}"
        self._answers.expect(name)
        try:
            created = await self._create(token, self._request(name, grant, request_pem))
            self._check(created, pod)
            answer = await self._answers.wait(name)
        finally:
            self._answers.forget(name)
        return answer.chain()

    async def _create(self, token: str, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            guest = self._guests.with_token(token)
            return await guest.create(CERTIFICATE_SIGNING_REQUESTS, request)
        except ForbiddenError as err:
            raise IssuanceError(
                f"the pod's account may not ask for a certificate: {err}", reason=MAY_NOT_ASK
            ) from err
        except ApiError as err:
            if err.status != _UNAUTHORIZED:
                raise
            raise IssuanceError(
                "the API server does not take the pod's token: it has expired, or its audience is"
                " none of the API server's",
                reason=TOKEN_REFUSED,
                is_retryable=True,
            ) from err

    def _check(self, created: Mapping[str, Any], pod: PodReference) -> None:
        """Compare who asked, as the API server proved it, with the pod that this was for.

        Raises:
            IssuanceError: It is another pod's token, or one of no pod; final.
        """
        asked = Requester.of(created, secret_issuer="")
        found = (asked.namespace, asked.pod_name, asked.pod_uid, asked.service_account)
        is_here = asked.node_name in ("", self._node_name)  # Not said before Kubernetes 1.30.
        if found != (pod.namespace, pod.name, pod.uid, pod.service_account) or not is_here:
            raise IssuanceError(
                f"expected the token of pod {pod}, got another's", reason=POD_MISMATCH
            )

    def _request(self, name: str, grant: Grant, request_pem: bytes) -> dict[str, Any]:
        zone = grant.zone
        return {
            "metadata": {"name": name, "labels": {NODE_LABEL: self._node_name}},
            "spec": {
                "signerName": zone.external_signer or zone.signer_name,
                "request": base64.b64encode(request_pem).decode(),
                "usages": list(USAGES),
                "expirationSeconds": int(grant.lifetime.total_seconds()),
            },
        }

    def _hear(self, body: Mapping[str, Any]) -> None:
        """Hand an answer to whoever waits for it; of requests themselves nothing is kept."""
        if body["metadata"]["name"] in self._answers:
            self._answers.take(None, Answer.parse(body))
