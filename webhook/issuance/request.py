# SPDX-License-Identifier: Apache-2.0
"""A request for a certificate, read once from the API object that carries it.

Rules:
    1. Who asks is taken from the fields that the API server has verified, never from the CSR.
    2. A request is a value; whether it is granted is `evaluation`.

Spec: certificates.k8s.io/v1 and v1beta1 PodCertificateRequest.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from webhook.exceptions import IssuanceError
from webhook.issuance.csr import INVALID_REQUEST, public_key_of, public_key_of_pkix
from webhook.issuance.public_key import key_type_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webhook.config import KeyType
    from webhook.issuance.public_key import PublicKey

__all__ = ("DEFAULT_LIFETIME", "OLD_NODE", "IssuanceRequest", "from_pod_certificate_request")

DEFAULT_LIFETIME: Final = timedelta(hours=24)
"""Kubernetes' default of `maxExpirationSeconds`."""

OLD_NODE: Final = "OldNode"


@dataclass(frozen=True, slots=True)
class IssuanceRequest:
    """Somebody asks for a certificate of a pod.

    Attributes:
        namespace: Of the pod.
        pod_name: Of the pod.
        pod_uid: Of the pod.
        service_account: Name of the pod's account.
        node_name: The node that the pod is bound to.
        signer_name: Who shall sign.
        public_key: The key; its possession is proved.
        key_type: Of the key.
        requested_lifetime: The longest that the requester accepts.
        annotations: What the pod's author wrote to the signer, unverified; we know no such keys.
    """

    namespace: str
    pod_name: str
    pod_uid: str
    service_account: str
    node_name: str
    signer_name: str
    public_key: PublicKey = field(repr=False)
    key_type: KeyType
    requested_lifetime: timedelta
    annotations: Mapping[str, str] = field(repr=False)


def from_pod_certificate_request(request: Mapping[str, Any]) -> IssuanceRequest:
    """Read a PodCertificateRequest of v1 or v1beta1.

    Raises:
        IssuanceError: Final: its fields are not those of the API, or its key is refused. Retryable:
            v1 does not show the key that a node of 1.35 wrote.
    """
    try:
        metadata, spec = request["metadata"], request["spec"]
        key = _public_key(spec)
        return IssuanceRequest(
            namespace=metadata["namespace"],
            pod_name=spec["podName"],
            pod_uid=spec["podUID"],
            service_account=spec["serviceAccountName"],
            node_name=spec["nodeName"],
            signer_name=spec["signerName"],
            public_key=key,
            key_type=key_type_of(key),
            requested_lifetime=_lifetime(spec.get("maxExpirationSeconds")),
            annotations=spec.get("unverifiedUserAnnotations") or {},
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as err:
        raise IssuanceError(
            "expected the fields of a PodCertificateRequest", reason=INVALID_REQUEST
        ) from err


def _public_key(spec: Mapping[str, Any]) -> PublicKey:
    stub = spec.get("stubPKCS10Request")
    if stub:
        return public_key_of(_decoded(stub))
    if not spec.get("pkixPublicKey"):
        raise IssuanceError(
            "the request of a node of 1.35 has its key in v1beta1 only",
            reason=OLD_NODE,
            is_retryable=True,
        )
    return public_key_of_pkix(
        _decoded(spec["pkixPublicKey"]),
        proof=_decoded(spec["proofOfPossession"]),
        pod_uid=spec["podUID"],
    )


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _lifetime(seconds: int | None) -> timedelta:
    return DEFAULT_LIFETIME if seconds is None else timedelta(seconds=seconds)
