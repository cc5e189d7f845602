# SPDX-License-Identifier: Apache-2.0
"""A certificate that a pod was issued, as far as it tells which authority the pod depends on.

Rules:
    1. A request without a certificate, or without a pod, tells nothing.
    2. It decides only how long an old root stays: a forged request can shorten that and no more.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509

from kubetls_sdk._profile import find_extension
from webhook.names import annotation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = ("IssuedLeaf", "key_identifier")

_POD_UID: Final = annotation("pod-uid")
_BOUND_POD_UID: Final = "authentication.kubernetes.io/pod-uid"


@dataclass(frozen=True, slots=True)
class IssuedLeaf:
    """What a pod was issued.

    Attributes:
        pod_uid: UID of the pod.
        signer_name: Of the signer that was asked.
        issuer: Key identifier of the authority that signed.
        not_before: Of the leaf, aware UTC.
    """

    pod_uid: str
    signer_name: str
    issuer: bytes
    not_before: datetime

    @classmethod
    def of_pod_certificate_request(cls, request: Mapping[str, Any]) -> IssuedLeaf | None:
        """Read a PodCertificateRequest; None while it has no certificate."""
        chain = (request.get("status") or {}).get("certificateChain")
        if not chain:
            return None
        return cls._of(request["spec"]["podUID"], request, chain.encode("ascii"))

    @classmethod
    def of_signing_request(cls, request: Mapping[str, Any]) -> IssuedLeaf | None:
        """Read a CertificateSigningRequest; None without a certificate, or a pod."""
        encoded = (request.get("status") or {}).get("certificate")
        bound = (request["spec"].get("extra") or {}).get(_BOUND_POD_UID) or ("",)
        named = (request["metadata"].get("annotations") or {}).get(_POD_UID)
        uid = named or bound[0]
        return cls._of(uid, request, base64.b64decode(encoded)) if encoded and uid else None

    @classmethod
    def _of(cls, pod_uid: str, request: Mapping[str, Any], chain: bytes) -> IssuedLeaf | None:
        leaf = x509.load_pem_x509_certificate(chain)
        issuer = find_extension(leaf.extensions, x509.AuthorityKeyIdentifier)
        if issuer is None or issuer.value.key_identifier is None:
            return None
        signer_name = request["spec"]["signerName"]
        return cls(pod_uid, signer_name, issuer.value.key_identifier, leaf.not_valid_before_utc)


def key_identifier(authority: x509.Certificate) -> bytes:
    """The key identifier that the leaves of an authority carry."""
    own = find_extension(authority.extensions, x509.SubjectKeyIdentifier)
    if own is not None:
        return own.value.digest
    key = authority.public_key()
    return x509.SubjectKeyIdentifier.from_public_key(key).digest
