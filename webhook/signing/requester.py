# SPDX-License-Identifier: Apache-2.0
"""Who made a CertificateSigningRequest, and for which pod.

Two may ask: a pod for itself, with a token that is bound to it; and our secret issuer for a pod
that it names in annotations.

Rules:
    1. Only `spec.username` and `spec.extra` say who asked: the API server wrote them.
    2. The annotations count from the secret issuer's account alone. They can be changed by others
       later, and that gains nothing: the key is the secret issuer's, which takes no certificate of
       another pod than the one that it asked for.
    3. A token that is bound to no pod is nobody's here.

Spec: certificates.k8s.io/v1 CertificateSigningRequestSpec; KEP-4193 (bound tokens).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from webhook.exceptions import IssuanceError
from webhook.names import annotation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

__all__ = ("POD_NAME", "POD_NAMESPACE", "POD_UID", "UNKNOWN_REQUESTER", "Requester")

POD_NAMESPACE: Final = annotation("pod-namespace")
POD_NAME: Final = annotation("pod-name")
POD_UID: Final = annotation("pod-uid")
UNKNOWN_REQUESTER: Final = "UnknownRequester"

_EXTRA: Final = "authentication.kubernetes.io"
_ACCOUNT: Final = re.compile(r"system:serviceaccount:([^:/]+):([^:/]+)")


@dataclass(frozen=True, slots=True)
class Requester:
    """For which pod a request was made.

    Attributes:
        namespace: Of the pod.
        pod_name: Of the pod.
        pod_uid: Of the pod.
        node_name: Where the bound token says that it runs; empty: not said.
        service_account: The pod's own, which asked; empty: the secret issuer asked.
    """

    namespace: str
    pod_name: str
    pod_uid: str
    node_name: str = ""
    service_account: str = ""

    @property
    def is_on_behalf(self) -> bool:
        """Whether the secret issuer asked for the pod."""
        return not self.service_account

    @classmethod
    def of(cls, request: Mapping[str, Any], *, secret_issuer: str) -> Self:
        """Find out who asked.

        Args:
            request: The CertificateSigningRequest.
            secret_issuer: User name of the secret issuer's account; empty: there is none.

        Raises:
            IssuanceError: Neither a pod nor the secret issuer; final.
        """
        username = request["spec"].get("username") or ""
        if secret_issuer and username == secret_issuer:
            return cls._on_behalf(request["metadata"].get("annotations") or {})
        found = _ACCOUNT.fullmatch(username)
        extra = request["spec"].get("extra") or {}
        name, uid = _one(extra, "pod-name"), _one(extra, "pod-uid")
        if found is None or not name or not uid:
            raise IssuanceError(
                "expected a pod's bound token or the secret issuer as requester",
                reason=UNKNOWN_REQUESTER,
            )
        return cls(found[1], name, uid, _one(extra, "node-name"), found[2])

    @classmethod
    def _on_behalf(cls, annotations: Mapping[str, str]) -> Self:
        namespace, name, uid = (annotations.get(key) for key in (POD_NAMESPACE, POD_NAME, POD_UID))
        if not (namespace and name and uid):
            raise IssuanceError(
                "expected the secret issuer to name a pod", reason=UNKNOWN_REQUESTER
            )
        return cls(namespace, name, uid)


def _one(extra: Mapping[str, Any], key: str) -> str:
    values = list(extra.get(f"{_EXTRA}/{key}") or ())
    return str(values[0]) if len(values) == 1 else ""
