# SPDX-License-Identifier: Apache-2.0
"""What a signer made of a CertificateSigningRequest of ours, waited for and checked.

Rules:
    1. A request is asked once; what gets no answer in time is given up, and asked anew with a new
       key.
    2. What comes back is accepted only if it is what was asked for, whoever sent it, and although
       it came from the API server.

Spec: certificates.k8s.io/v1 CertificateSigningRequestStatus.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509

from webhook.exceptions import IssuanceError
from webhook.issuance.returned import verify_returned

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from webhook.delivery.plan import Plan
    from webhook.issuance.grant import Grant
    from webhook.issuance.profile import Issued

__all__ = ("NO_ANSWER", "REFUSED", "Answer", "Answers", "verified")

NO_ANSWER: Final = "NoAnswer"
REFUSED: Final = "SignerRefused"
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
        """Take the answer; None while there is none."""
        status = body.get("status") or {}
        refusals = [
            f"{each.get('reason')}: {each.get('message')}"[:_MAX_SHOWN]
            for each in status.get("conditions") or ()
            if each.get("type") in {"Denied", "Failed"}
        ]
        certificate = status.get("certificate") or ""
        if not (certificate or refusals):
            return None
        return cls(body["metadata"]["name"], certificate, "; ".join(refusals))

    def chain(self) -> bytes:
        """What was returned, PEM.

        Raises:
            IssuanceError: Refused, or no base64; retryable with a new request.
        """
        if self.refusal:
            raise IssuanceError(self.refusal, reason=REFUSED, is_retryable=True)
        try:
            return base64.b64decode(self.certificate, validate=True)
        except binascii.Error:
            raise IssuanceError(
                "expected base64 from the signer", reason=REFUSED, is_retryable=True
            ) from None


class Answers:
    """The answers that are waited for.

    Args:
        patience_seconds: How long each is.
    """

    def __init__(self, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._expected: dict[str, asyncio.Future[Answer]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._expected

    def take(self, _old: Answer | None, new: Answer | None) -> None:
        """Take an answer: an informer's callback."""
        future = self._expected.get(new.name) if new is not None else None
        if new is not None and future is not None and not future.done():
            future.set_result(new)

    def expect(self, name: str) -> None:
        """From now on, keep the answer to a request for `wait`, or until `forget`."""
        self._expected[name] = asyncio.get_running_loop().create_future()

    def forget(self, name: str) -> None:
        """No more wait for an answer."""
        self._expected.pop(name, None)

    async def wait(self, name: str) -> Answer:
        """The answer to a request that is expected.

        Raises:
            IssuanceError: There is none in time; retryable with a new request.
        """
        try:
            async with asyncio.timeout(self._patience_seconds):
                return await self._expected[name]
        except TimeoutError:
            raise IssuanceError(
                f"the signer did not answer in {self._patience_seconds:g} s",
                reason=NO_ANSWER,
                is_retryable=True,
            ) from None


def verified(chain_pem: bytes, grant: Grant, plan: Plan) -> Issued:
    """Accept what came back only if it is what was asked for.

    Raises:
        IssuanceError: It is not; retryable, with a new request.
    """
    try:
        expected = grant if grant.zone.external_signer else _shortened(chain_pem, grant)
        return verify_returned(chain_pem, expected, plan.bundle, datetime.now(UTC))
    except IssuanceError as err:
        raise IssuanceError(str(err), reason=err.reason, is_retryable=True) from err


def _shortened(chain_pem: bytes, grant: Grant) -> Grant:
    """Our own signer gives less where its authority ends sooner: take that, and never more."""
    try:
        leaf = x509.load_pem_x509_certificate(chain_pem)
    except ValueError:
        return grant
    lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return replace(grant, lifetime=min(lifetime, grant.lifetime))
