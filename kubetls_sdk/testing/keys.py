# SPDX-License-Identifier: Apache-2.0
"""Fresh private keys of the kinds that an SVID may have, and the digest each signs with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from kubetls_sdk.svid import PrivateKey

__all__ = ("KEY_TYPES", "KeyType", "key_type_of", "new_key", "signing_digest")

KeyType = Literal["p256", "p384", "ed25519", "rsa2048"]
KEY_TYPES: tuple[KeyType, ...] = get_args(KeyType)


def new_key(key_type: KeyType) -> PrivateKey:
    """Make a private key.

    Raises:
        ConfigurationError: The type is not one of `KEY_TYPES`.
    """
    match key_type:
        case "p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "rsa2048":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    raise ConfigurationError(f"expected a key type of {KEY_TYPES}, got {key_type!r}")


def key_type_of(key: PrivateKey) -> KeyType:
    """The type that a key was made as."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return "p384" if key.curve.name == "secp384r1" else "p256"
    return "ed25519" if isinstance(key, ed25519.Ed25519PrivateKey) else "rsa2048"


def signing_digest(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    """The digest that a key signs a certificate with; None for Ed25519, which brings its own."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp384r1":
        return hashes.SHA384()
    return hashes.SHA256()
