# SPDX-License-Identifier: Apache-2.0
"""The audit log of issuance: one line of JSON for each certificate, refusal and failure.

Rules:
    1. Every decision is written, none is sampled.
    2. No key, CSR, certificate or token. Texts are escaped to ASCII and cut, so that nobody can
       fake a line or fill a disk with one.
    3. Names of fields and decisions are part of the public interface and only added to.
    4. Writing never raises into the signer.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from webhook.exceptions import IssuanceError
    from webhook.issuance.grant import Grant
    from webhook.issuance.profile import Issued
    from webhook.issuance.request import IssuanceRequest

__all__ = ("LOGGER", "MAX_CHARACTERS", "AuditLog", "Decision")

LOGGER: Final = "kubetls.issuance"
MAX_CHARACTERS: Final = 512
"""Longer texts are cut, and `...` marks it."""
_MAX_NAMES: Final = 100

Decision = Literal["issued", "denied", "failed"]


class AuditLog:
    """Where issuance is written down.

    Args:
        logger: Its handlers get one line a record; INFO for what was issued, WARNING otherwise.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._log = logger if logger is not None else logging.getLogger(LOGGER)

    def issued(
        self,
        request: IssuanceRequest,
        grant: Grant,
        issued: Issued,
        *,
        now: datetime,
        requester: str,
        kind: str = "PodCertificateRequest",
        name: str = "",
        signer: str = "",
    ) -> None:
        """Write down a certificate.

        Args:
            request: What was asked for.
            grant: What was granted.
            issued: The certificate.
            now: Aware UTC time.
            requester: Who asked: the node's user, or `spec.username` of a CSR.
            kind: Of the API object.
            name: Of the API object.
            signer: Fingerprint of the authority, or the name of an external signer.
        """
        self._write(
            "issued",
            now,
            self._who(request, requester, kind, name),
            {
                "serial": f"{issued.serial:x}",
                "spiffe_id": str(grant.spiffe_id),
                "common_name": grant.common_name,
                "dns_names": _listed(grant.dns_names),
                "zone": grant.zone.name,
                "authority": signer,
                "not_before": _time(issued.not_before),
                "not_after": _time(issued.not_after),
                "refresh_at": _time(issued.begin_refresh_at),
                "reason": None,
                "message": None,
            },
        )

    def refused(
        self,
        request: IssuanceRequest | None,
        error: IssuanceError,
        *,
        now: datetime,
        requester: str,
        kind: str = "PodCertificateRequest",
        name: str = "",
        decision: Literal["denied", "failed"] = "denied",
    ) -> None:
        """Write down a request that is refused for ever.

        Args:
            request: What was asked for; None where it could not be read.
            error: Why not.
            now: Aware UTC time.
            requester: Who asked.
            kind: Of the API object.
            name: Of the API object.
            decision: The condition that was written.
        """
        found = self._who(request, requester, kind, name)
        self._write(decision, now, found, {"reason": error.reason, "message": str(error)})

    def _who(
        self, request: IssuanceRequest | None, requester: str, kind: str, name: str
    ) -> dict[str, Any]:
        found: dict[str, Any] = {"kind": kind, "name": name, "requester": requester}
        if request is not None:
            found |= {
                "namespace": request.namespace,
                "pod": request.pod_name,
                "pod_uid": request.pod_uid,
                "service_account": request.service_account,
                "node": request.node_name,
                "signer": request.signer_name,
                "key_type": str(request.key_type),
                "requested_seconds": int(request.requested_lifetime.total_seconds()),
            }
        return found

    def _write(
        self, decision: Decision, now: datetime, who: dict[str, Any], what: dict[str, Any]
    ) -> None:
        level = logging.INFO if decision == "issued" else logging.WARNING
        record = {"time": _time(now, "milliseconds"), "decision": decision} | who | what
        line = json.dumps({key: _cut(value) for key, value in record.items()}, ensure_ascii=True)
        self._log.log(level, "%s", line)


def _listed(names: Sequence[str]) -> list[str]:
    if len(names) <= _MAX_NAMES:
        return list(names)
    return [*names[:_MAX_NAMES], f"... and {len(names) - _MAX_NAMES} more"]


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_CHARACTERS:
        return f"{value[:MAX_CHARACTERS]}..."
    return value


def _time(at: datetime, precision: str = "seconds") -> str:
    return at.replace(tzinfo=None).isoformat(timespec=precision) + "Z"
