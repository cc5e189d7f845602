# SPDX-License-Identifier: Apache-2.0
"""Gets a certificate by a CertificateSigningRequest: asks, waits for the answer, clears away.

Rules:
    1. What comes back is only handed on; whether it is what was asked for is the caller's to check.
    2. Requests of ours are deleted once they are answered; those of a crash go with the controller
       manager's cleaner, an hour later.
"""

from __future__ import annotations

import base64
import contextlib
from typing import TYPE_CHECKING, Any, Final

from webhook.api import ApiError
from webhook.api.resources import CERTIFICATE_SIGNING_REQUESTS
from webhook.delivery.answer import Answer, Answers
from webhook.signing.requester import POD_NAME, POD_NAMESPACE, POD_UID
from webhook.signing.requests import RequestWatch
from webhook.signing.wire_request import USAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webhook.api import Api, Pod
    from webhook.issuance.grant import Grant

__all__ = ("Certifier", "signing_request")

_PREFIX: Final = "kubetls-"


class Certifier:
    """Asks signers.

    Args:
        api: The API server.
        patience_seconds: How long an answer is waited for.

    Attributes:
        requests: Must follow the signer names that are asked.
    """

    def __init__(self, api: Api, *, patience_seconds: float = 30.0) -> None:
        self._api = api
        self._answers = Answers(patience_seconds)
        self.requests: RequestWatch[Answer] = RequestWatch(
            api, CERTIFICATE_SIGNING_REQUESTS, _answer, self._answers.take
        )

    async def certify(self, request: Mapping[str, Any]) -> bytes:
        """Ask, and return what came back, PEM.

        Raises:
            IssuanceError: Refused, or no answer in time; retryable with a new request.
            ApiError: The API server did not take the request.
        """
        created = await self._api.create(CERTIFICATE_SIGNING_REQUESTS, request)
        metadata = created["metadata"]
        try:
            answer = await self._answer_to(metadata["name"])
        finally:
            with contextlib.suppress(ApiError):
                await self._api.delete(
                    CERTIFICATE_SIGNING_REQUESTS, metadata["name"], uid=metadata["uid"]
                )
        return answer.chain()

    async def _answer_to(self, name: str) -> Answer:
        known = self.requests.get(("", name))
        if known is not None:
            return known
        self._answers.expect(name)
        try:
            return await self._answers.wait(name)
        finally:
            self._answers.forget(name)


def signing_request(pod: Pod, grant: Grant, request_pem: bytes) -> dict[str, Any]:
    """The CertificateSigningRequest for a pod."""
    zone = grant.zone
    return {
        "metadata": {
            "generateName": _PREFIX,
            "annotations": {POD_NAMESPACE: pod.namespace, POD_NAME: pod.name, POD_UID: pod.uid},
        },
        "spec": {
            "signerName": zone.external_signer or zone.signer_name,
            "request": base64.b64encode(request_pem).decode(),
            "usages": list(USAGES),
            "expirationSeconds": int(grant.lifetime.total_seconds()),
        },
    }


def _answer(body: Mapping[str, Any]) -> Answer | None:
    """The answer to a request of ours; None for those of others."""
    return Answer.parse(body) if body["metadata"]["name"].startswith(_PREFIX) else None
