# SPDX-License-Identifier: Apache-2.0
"""The public keys of one issuer, each bound to the algorithms that its type allows.

Rules:
    1. Asymmetric signature keys only. Symmetric and encryption keys, and types that we do not know,
       are not keys here; a *private* key is an error of the issuer and not used.
    2. A key verifies only the algorithms of its own type and curve, and only `alg` when it has one.
    3. A set never changes; the same document again is the same set for whoever compares.

Spec: RFC 7517 §4, §5; RFC 7518 §3, §6; RFC 8037; RFC 8725 §3.1, §3.5.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jwt
from jwt import algorithms as jwa

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.users.json_text import parse_object
from kubetls_sdk.users.token import Token, is_clean
from kubetls_sdk.users.user import InvalidTokenError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ("ALGORITHMS", "MAX_KEYS", "MAX_TEXT_BYTES", "NO_KEYS", "KeySet", "VerificationKey")

_log = logging.getLogger(__name__)

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"P-256": ("ES256",), "P-384": ("ES384",), "P-521": ("ES512",)}
ALGORITHMS: Final = (*_RSA, "ES256", "ES384", "ES512", "EdDSA")
"""Everything that can be allowed: no `none`, no HMAC."""

MAX_KEYS: Final = 128
MAX_TEXT_BYTES: Final = 512 * 1024
_MAX_ALIKE = 4
_RSA_BITS = range(2048, 8193)
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_JWS = jwt.PyJWS(algorithms=ALGORITHMS)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class VerificationKey:
    """A public key.

    Attributes:
        kid: Its name within the set, None without one.
        algorithms: What it verifies.
        public_key: Of the `cryptography` package.
    """

    kid: str | None
    algorithms: tuple[str, ...]
    public_key: Any

    def verifies(self, token: Token) -> bool:
        """Tell whether this key has signed the token."""
        try:
            _JWS.decode_complete(token.text, self.public_key, algorithms=[token.algorithm])
        except jwt.PyJWTError:
            return False
        return True


class KeySet:
    """The keys of one issuer.

    Args:
        keys: In any order.
    """

    __slots__ = ("_by_kid", "keys")

    def __init__(self, keys: Iterable[VerificationKey] = ()) -> None:
        self.keys = tuple(keys)
        self._by_kid: dict[str, list[VerificationKey]] = {}
        for key in self.keys:
            if key.kid is not None:
                self._by_kid.setdefault(key.kid, []).append(key)

    @classmethod
    def parse(cls, text: bytes) -> KeySet:
        """Read a JWK Set document; entries that are no signature keys are passed over.

        Raises:
            ConfigurationError: Too long, not JSON, or not a JWK Set.
        """
        if len(text) > MAX_TEXT_BYTES:
            raise ConfigurationError(f"expected a JWK Set of at most {MAX_TEXT_BYTES} bytes")
        try:
            document = parse_object(text)
        except ValueError as err:
            raise ConfigurationError(f"JWK Set: {err}") from None
        entries = document.get("keys")
        if not isinstance(entries, list) or len(entries) > MAX_KEYS:
            raise ConfigurationError(f"expected a JWK Set with at most {MAX_KEYS} 'keys'")
        return cls.of(entries, use="sig")

    @classmethod
    def of(cls, entries: Iterable[object], *, use: str) -> KeySet:
        """Take the signature keys out of JWK entries.

        Args:
            entries: Parsed JSON.
            use: What `use` may say, when it is there.
        """
        found = (_key(entry, use) for entry in entries if isinstance(entry, dict))
        return cls(key for key in found if key is not None)

    def has(self, kid: str | None) -> bool:
        """Tell whether there is a key of this name; a token without `kid` asks for any."""
        return bool(self.keys) if kid is None else kid in self._by_kid

    def verify(self, token: Token) -> None:
        """Check the signature.

        Raises:
            InvalidTokenError: No key fits, or none has signed the token.
        """
        keys = self.keys if token.kid is None else self._by_kid.get(token.kid, [])
        fitting = [key for key in keys if token.algorithm in key.algorithms]
        if not fitting:
            raise InvalidTokenError("no key of the issuer has this kid and alg")
        if len(fitting) > (1 if token.kid is None else _MAX_ALIKE):
            raise InvalidTokenError("expected a kid that tells the issuer's keys apart")
        if not any(key.verifies(token) for key in fitting):
            raise InvalidTokenError("the signature is not of the issuer's key")

    def __repr__(self) -> str:
        return f"<KeySet of {len(self.keys)}>"


NO_KEYS: Final = KeySet()
"""Verifies nothing."""


def _key(entry: Mapping[str, Any], use: str) -> VerificationKey | None:
    kid = entry.get("kid")
    if not _PRIVATE.isdisjoint(entry):
        if entry.get("kty") != "oct":
            _log.error("a JWK Set publishes a private key, which is not used")
        return None
    if entry.get("use", use) != use or not _may_verify(entry) or not (kid is None or is_clean(kid)):
        return None
    algorithms = _algorithms(entry)
    public_key = _public_key(entry) if algorithms else None
    return None if public_key is None else VerificationKey(kid, algorithms, public_key)


def _may_verify(entry: Mapping[str, Any]) -> bool:
    operations = entry.get("key_ops", ["verify"])
    return isinstance(operations, list) and "verify" in operations


def _algorithms(entry: Mapping[str, Any]) -> tuple[str, ...]:
    kind, curve = entry.get("kty"), entry.get("crv")
    allowed: tuple[str, ...] = ()
    if kind == "RSA":
        allowed = _RSA
    elif kind == "EC" and isinstance(curve, str):
        allowed = _CURVES.get(curve, ())
    elif kind == "OKP" and curve == "Ed25519":
        allowed = ("EdDSA",)
    named = entry.get("alg")
    return allowed if named is None else tuple(each for each in allowed if each == named)


def _public_key(entry: Mapping[str, Any]) -> Any:
    readers: dict[str, Any] = {
        "RSA": jwa.RSAAlgorithm,
        "EC": jwa.ECAlgorithm,
        "OKP": jwa.OKPAlgorithm,
    }
    try:
        key: Any = readers[entry["kty"]].from_jwk(dict(entry))
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return key if entry["kty"] != "RSA" or key.key_size in _RSA_BITS else None
