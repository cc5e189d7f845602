# SPDX-License-Identifier: Apache-2.0
"""The public key of a request, with the proof that its sender has the private one.

Rules:
    1. The key is all that is taken. A request that says anything else is refused, not ignored:
       its author expects names that nobody checked.
    2. Possession is proved again here, although the API server has checked it.

Spec: RFC 2986 §4; certificates.k8s.io/v1 and v1beta1 PodCertificateRequest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding

from kubetls_sdk._profile import MALFORMED
from webhook.exceptions import IssuanceError
from webhook.issuance.public_key import UNSUPPORTED_KEY_TYPE, supported

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from webhook.issuance.public_key import PublicKey

__all__ = (
    "INVALID_REQUEST",
    "INVALID_SIGNATURE",
    "MAX_REQUEST_BYTES",
    "NON_EMPTY_REQUEST",
    "public_key_of",
    "public_key_of_pkix",
)

INVALID_REQUEST: Final = "InvalidRequest"
INVALID_SIGNATURE: Final = "InvalidSignature"
NON_EMPTY_REQUEST: Final = "NonEmptyRequest"
MAX_REQUEST_BYTES: Final = 10 * 1024
"""The API server's limit of `stubPKCS10Request`."""

_SHA256: Final = hashes.SHA256()
_SHA2 = frozenset({"sha256", "sha384", "sha512"})
_ECDSA: Final = ec.ECDSA(_SHA256)
_PSS: Final = padding.PSS(padding.MGF1(_SHA256), padding.PSS.AUTO)


def public_key_of(der: bytes) -> PublicKey:
    """Take the public key of an otherwise empty PKCS#10 request.

    Args:
        der: The request, DER; at most `MAX_REQUEST_BYTES`.

    Raises:
        IssuanceError: Final. `InvalidRequest`, `NonEmptyRequest`, `UnsupportedKeyType` or
            `InvalidSignature`.

    Spec: RFC 2986 §4.1, §4.2.
    """
    try:
        request = x509.load_der_x509_csr(_bounded(der))
        _check_empty(request)
        key = supported(_key_in(request))
        _check_signature(request)
    except MALFORMED as err:
        raise _refused("expected a well-formed PKCS#10 request", INVALID_REQUEST) from err
    return key


def public_key_of_pkix(der: bytes, *, proof: bytes, pod_uid: str) -> PublicKey:
    """Take the public key of the two older fields of v1beta1, which nodes of 1.35 send.

    Args:
        der: SubjectPublicKeyInfo.
        proof: Signature over the UTF-8 of the pod's UID: Ed25519; ECDSA in ASN.1 over SHA-256; or
            RSA-PSS with SHA-256.
        pod_uid: Of the request.

    Raises:
        IssuanceError: Final. `InvalidRequest`, `UnsupportedKeyType` or `InvalidSignature`.

    Spec: certificates.k8s.io/v1beta1 `pkixPublicKey`, `proofOfPossession`.
    """
    try:
        key = supported(serialization.load_der_public_key(_bounded(der)))
        _verify(key, proof, pod_uid.encode())
    except UnsupportedAlgorithm as err:
        raise _refused("expected a key of a supported type", UNSUPPORTED_KEY_TYPE) from err
    except InvalidSignature as err:
        raise _unproven() from err
    except MALFORMED as err:
        raise _refused("expected a well-formed public key", INVALID_REQUEST) from err
    return key


def _bounded(der: bytes) -> bytes:
    if len(der) > MAX_REQUEST_BYTES:
        raise _refused(
            f"expected at most {MAX_REQUEST_BYTES} bytes, got {len(der)}", INVALID_REQUEST
        )
    return der


def _check_empty(request: x509.CertificateSigningRequest) -> None:
    # Extensions are an attribute, and one without any is an attribute as well.
    for what, found in (("subject", request.subject), ("attributes", request.attributes)):
        if len(found):
            raise _refused(
                f"expected a request with nothing but a key, got one with {what}",
                NON_EMPTY_REQUEST,
            )


def _key_in(request: x509.CertificateSigningRequest) -> PublicKeyTypes:
    try:
        return request.public_key()
    except UnsupportedAlgorithm as err:
        raise _refused("expected a key of a supported type", UNSUPPORTED_KEY_TYPE) from err


def _check_signature(request: x509.CertificateSigningRequest) -> None:
    try:
        digest = request.signature_hash_algorithm  # None: Ed25519, which brings its own.
        is_proven = digest is None or digest.name in _SHA2
        is_proven = is_proven and request.is_signature_valid
    except UnsupportedAlgorithm as err:
        raise _unproven() from err
    if not is_proven:
        raise _unproven()


def _verify(key: PublicKey, proof: bytes, message: bytes) -> None:
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(proof, message)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(proof, message, _ECDSA)
    else:
        key.verify(proof, message, _PSS, _SHA256)


def _unproven() -> IssuanceError:
    return _refused("expected a signature of the key itself, with SHA-2", INVALID_SIGNATURE)


def _refused(message: str, reason: str) -> IssuanceError:
    return IssuanceError(message, reason=reason)
