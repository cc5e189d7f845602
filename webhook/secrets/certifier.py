# SPDX-License-Identifier: Apache-2.0
"""Gets a certificate by a CertificateSigningRequest: asks, waits for the answer, clears away.

Rules:
    1. What comes back is only handed on; whether it is what was asked for is the caller's to check.
    2. A request is asked once; what gets no answer in time is given up, and asked anew with a new
       key.
    3. Requests of ours are deleted once they are answered; those of a crash go with the controller
       manager's cleaner, an hour later.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from webhook.api import ApiError
from webhook.api.resources import CERTIFICATE_SIGNING_REQUESTS
from webhook.exceptions import IssuanceError
from webhook.signing.requester import POD_NAME, POD_NAMESPACE, POD_UID
from webhook.signing.requests import RequestWatch
from webhook.signing.wire_request import USAGES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from webhook.api import Api, Pod
    from webhook.issuance.grant import Grant

__all__ = ("NO_ANSWER", "REFUSED", "Answer", "Certifier", "signing_request")

NO_ANSWER: Final = "NoAnswer"
REFUSED: Final = "SignerRefused"
_PREFIX: Final = "kubetls-"
_MAX_SHOWN: Final = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What a signer made of a request of ours.

    Attributes:
        name: Of the request.
        certificate: What was returned, base64; empty when it is refused.
        refusal: Reason and message; empty when it is not.
    """

    name: str
    certificate: str
    refusal: str

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self | None:
        """Take the answer; None while there is none, and for requests of others."""
        name, status = body["metadata"]["name"], body.get("status") or {}
        refusals = [
            f"{each.get('reason')}: {each.get('message')}"[:_MAX_SHOWN]
            for each in status.get("conditions") or ()
            if each.get("type") in {"Denied", "Failed"}
        ]
        certificate = status.get("certificate") or ""
        if not name.startswith(_PREFIX) or not (certificate or refusals):
            return None
        return cls(name, certificate, "; ".join(refusals))


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
        self._patience_seconds = patience_seconds
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self.requests: RequestWatch[Answer] = RequestWatch(
            api, CERTIFICATE_SIGNING_REQUESTS, Answer.parse, self._changed
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
        if answer.refusal:
            raise IssuanceError(answer.refusal, reason=REFUSED, is_retryable=True)
        try:
            return base64.b64decode(answer.certificate, validate=True)
        except binascii.Error:
            raise IssuanceError(
                "expected base64 from the signer", reason=REFUSED, is_retryable=True
            ) from None

    async def _answer_to(self, name: str) -> Answer:
        known = self.requests.get(("", name))
        if known is not None:
            return known
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[name] = future
        try:
            async with asyncio.timeout(self._patience_seconds):
                return await future
        except TimeoutError:
            raise IssuanceError(
                f"the signer did not answer in {self._patience_seconds:g} s",
                reason=NO_ANSWER,
                is_retryable=True,
            ) from None
        finally:
            del self._waiting[name]

    def _changed(self, _old: Answer | None, new: Answer | None) -> None:
        future = self._waiting.get(new.name) if new is not None else None
        if new is not None and future is not None and not future.done():
            future.set_result(new)


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
