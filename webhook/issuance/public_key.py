# SPDX-License-Identifier: Apache-2.0
"""The public keys that a certificate may be about, by Kubernetes' names of key types.

Rules:
    1. Exactly the six types of Kubernetes: other curves, sizes and exponents are refused.
    2. A key that proves nothing is refused: an Ed25519 point of small order verifies signatures
       that nobody made.

Spec: certificates.k8s.io/v1 PodCertificateRequest `stubPKCS10Request`; RFC 8032 §5.1.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from webhook.config import KeyType
from webhook.exceptions import IssuanceError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

__all__ = ("UNSUPPORTED_KEY_TYPE", "PublicKey", "key_type_of", "supported")

UNSUPPORTED_KEY_TYPE: Final = "UnsupportedKeyType"
"""Kubernetes' documented reason of a denial."""

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

_CURVES: Final = {
    "secp256r1": KeyType.ECDSA_P256,
    "secp384r1": KeyType.ECDSA_P384,
    "secp521r1": KeyType.ECDSA_P521,
}
_MODULI: Final = {3072: KeyType.RSA_3072, 4096: KeyType.RSA_4096}
_EXPONENT: Final = 65537
_FIELD: Final = 2**255 - 19
# The y coordinates of the eight points whose order divides the cofactor, two of them each with
# either sign of x.
_ORDER_8: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER: Final = frozenset({0, 1, _FIELD - 1, _ORDER_8, _FIELD - _ORDER_8})


def supported(key: PublicKeyTypes) -> PublicKey:
    """Return the key if it is one that a certificate may be about.

    Raises:
        IssuanceError: It is not; final, `UnsupportedKeyType`.
    """
    if not isinstance(key, PublicKey):
        raise _unsupported("another algorithm")
    key_type_of(key)
    if isinstance(key, ed25519.Ed25519PublicKey):
        _check_order(key)
    return key


def key_type_of(key: PublicKey) -> KeyType:
    """Name the type of a key.

    Raises:
        IssuanceError: It has none of Kubernetes' types; final, `UnsupportedKeyType`.
    """
    if isinstance(key, ec.EllipticCurvePublicKey):
        found = _CURVES.get(key.curve.name)
        if found is None:
            raise _unsupported(f"an EC key on {key.curve.name!r}")
        return found
    if isinstance(key, rsa.RSAPublicKey):
        return _rsa_type(key)
    return KeyType.ED25519


def _rsa_type(key: rsa.RSAPublicKey) -> KeyType:
    found = _MODULI.get(key.key_size)
    if found is None:
        raise _unsupported(f"an RSA key of {key.key_size} bits")
    if key.public_numbers().e != _EXPONENT:
        raise _unsupported("an RSA key with an exponent other than 65537")
    return found


def _check_order(key: ed25519.Ed25519PublicKey) -> None:
    encoded = int.from_bytes(key.public_bytes_raw(), "little") & ((1 << 255) - 1)
    if encoded >= _FIELD or encoded in _SMALL_ORDER:
        raise _unsupported("an Ed25519 point of small order, or not in its canonical form")


def _unsupported(got: str) -> IssuanceError:
    expected = ", ".join(KeyType)
    return IssuanceError(f"expected a key of {expected}, got {got}", reason=UNSUPPORTED_KEY_TYPE)
