# SPDX-License-Identifier: Apache-2.0
"""The PKCS#10 request in a CertificateSigningRequest, as our two kinds of signers take it.

Rules:
    1. For our own signer it says nothing but a key (`webhook.issuance.csr`).
    2. Usages are exactly those of the profile.
    3. For an external signer it says exactly what was granted: subject, names and usages, and no
       other extension.

Spec: RFC 2986 §4; RFC 2985 §5.4.2; certificates.k8s.io/v1 CertificateSigningRequestSpec `request`.
"""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from kubetls_sdk import _pem
from webhook.exceptions import IssuanceError
from webhook.issuance.csr import (
    INVALID_REQUEST,
    INVALID_SIGNATURE,
    MAX_REQUEST_BYTES,
    public_key_of,
)
from webhook.issuance.leaf import BOTH_ROLES, KEY_USAGE
from webhook.issuance.profile import names_of, subject_of
from webhook.issuance.public_key import key_type_of, supported
from webhook.issuance.request import DEFAULT_LIFETIME, IssuanceRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webhook.api import Pod
    from webhook.config import Zone
    from webhook.issuance.grant import Grant
    from webhook.issuance.public_key import PublicKey
    from webhook.signing.requester import Requester

__all__ = ("DIFFERENT_NAMES", "UNEXPECTED_USAGES", "NamedRequest", "read_request", "request_der")

USAGES: Final = ("client auth", "digital signature", "server auth")
UNEXPECTED_USAGES: Final = "UnexpectedUsages"

DIFFERENT_NAMES: Final = "DifferentNames"
_LABELS: Final = frozenset({"CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"})
_MAX_PEM: Final = 4 * MAX_REQUEST_BYTES
_MALFORMED: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    x509.AttributeNotFound,
)


def read_request(
    body: Mapping[str, Any], requester: Requester, pod: Pod, zone: Zone
) -> tuple[IssuanceRequest, NamedRequest | None]:
    """Read a CertificateSigningRequest.

    Args:
        body: The object.
        requester: Who made it.
        pod: For which it was made.
        zone: That its signer name stands for.

    Returns:
        The request; and what it says beside its key, where an external signer will sign.

    Raises:
        IssuanceError: It is not one that could be granted; final.
    """
    spec = body["spec"]
    if sorted(spec.get("usages") or ()) != list(USAGES):
        raise IssuanceError(f"expected usages {', '.join(USAGES)}", reason=UNEXPECTED_USAGES)
    der = request_der(spec["request"])
    named = None if zone.external_signer is None else NamedRequest(der)
    key = public_key_of(der) if named is None else named.public_key
    seconds = spec.get("expirationSeconds")
    request = IssuanceRequest(
        namespace=requester.namespace,
        pod_name=requester.pod_name,
        pod_uid=requester.pod_uid,
        service_account=requester.service_account or pod.service_account,
        node_name=requester.node_name or pod.node_name,
        signer_name=zone.signer_name,
        public_key=key,
        key_type=key_type_of(key),
        requested_lifetime=DEFAULT_LIFETIME if seconds is None else timedelta(seconds=seconds),
        annotations={},
    )
    return request, named


def request_der(encoded: str) -> bytes:
    """Take the DER out of `spec.request`, base64 of PEM with one block.

    Raises:
        IssuanceError: It is something else; final.
    """
    try:
        blocks = _pem.blocks(base64.b64decode(encoded[: _MAX_PEM + 1], validate=True))
    except (ValueError, TypeError, _pem.PemSyntaxError) as err:
        raise _invalid() from err
    if len(encoded) > _MAX_PEM or len(blocks) != 1 or blocks[0].label not in _LABELS:
        raise _invalid()
    return blocks[0].der


class NamedRequest:
    """A request that says which certificate it wants.

    Args:
        der: PKCS#10.

    Attributes:
        public_key: Its possession is proved.

    Raises:
        IssuanceError: Malformed, or the key is not supported or not proved; final.
    """

    public_key: PublicKey

    def __init__(self, der: bytes) -> None:
        try:
            self._request = x509.load_der_x509_csr(der)
            self.public_key = supported(self._request.public_key())
            is_proven = self._request.is_signature_valid
        except _MALFORMED as err:
            raise _invalid() from err
        if not is_proven:
            raise IssuanceError("expected a valid signature", reason=INVALID_SIGNATURE)

    def check(self, grant: Grant) -> None:
        """Compare what it wants with what was granted.

        Raises:
            IssuanceError: They differ; final.
        """
        wanted = {
            x509.SubjectAlternativeName.oid: names_of(grant),
            x509.KeyUsage.oid: KEY_USAGE,
            x509.ExtendedKeyUsage.oid: BOTH_ROLES,
        }
        try:
            found = {each.oid: each.value for each in self._request.extensions}
            is_same = self._request.subject == subject_of(grant) and found == wanted
        except _MALFORMED as err:
            raise _invalid() from err
        if not is_same or len(self._request.attributes) != 1:
            raise IssuanceError(
                "expected a request with exactly the subject, names and usages of the pod",
                reason=DIFFERENT_NAMES,
            )


def _invalid() -> IssuanceError:
    return IssuanceError("expected a well-formed PKCS#10 request in PEM", reason=INVALID_REQUEST)
