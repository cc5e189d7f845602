# SPDX-License-Identifier: Apache-2.0
"""Issuers of tokens, honest and otherwise: keys are made anew for each run."""

from __future__ import annotations

import base64
import functools
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER = "https://login.example.com/"
AUDIENCE = "https://orders.example.com"

_MAKERS = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}
_WRITERS = {
    "R": jwt.algorithms.RSAAlgorithm,
    "P": jwt.algorithms.RSAAlgorithm,
    "E": jwt.algorithms.ECAlgorithm,
}


@functools.cache
def private_key(algorithm: str, number: int = 0) -> Any:
    """The private key number `number` of a kind; the same within one run."""
    del number
    return _MAKERS[algorithm]()


class Signer:
    """A key of an issuer, and what it signs."""

    def __init__(self, algorithm: str = "ES256", kid: str | None = "k1", number: int = 0) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.key = private_key(algorithm, number)

    def jwk(self, **more: Any) -> dict[str, Any]:
        """The public key as a JWK; None removes a member."""
        kind = jwt.algorithms.OKPAlgorithm
        if self.algorithm != "EdDSA":
            kind = _WRITERS[self.algorithm[0]]
        entry = kind.to_jwk(self.key.public_key(), as_dict=True)
        entry.pop("key_ops", None)
        entry |= {"kid": self.kid, "use": "sig", **more}
        return {name: value for name, value in entry.items() if value is not None}

    def jwks(self, *others: Signer) -> str:
        """A JWK Set with this key and others."""
        return json.dumps({"keys": [each.jwk() for each in (self, *others)]})

    def token(self, header: dict[str, Any] | None = None, **claims: Any) -> bytes:
        """An access token; `header` and keywords change it, None removes."""
        return self.signed(json.dumps(access_claims(**claims)).encode(), header)

    def signed(self, payload: bytes, header: dict[str, Any] | None = None) -> bytes:
        """Sign any payload."""
        fields = {"alg": self.algorithm, "typ": "at+jwt", "kid": self.kid, **(header or {})}
        fields = {name: value for name, value in fields.items() if value is not None}
        return self.signed_raw(json.dumps(fields).encode(), payload)

    def signed_raw(self, header: bytes, payload: bytes) -> bytes:
        """Sign any bytes as header and payload."""
        text = b".".join((base64url(header), base64url(payload)))
        algorithm = jwt.PyJWS().get_algorithm_by_name(self.algorithm)
        return text + b"." + base64url(algorithm.sign(text, self.key))


def access_claims(**changes: Any) -> dict[str, Any]:
    """The claims of a good access token, changed; None removes."""
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "sub": "alice",
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 3600,
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def base64url(value: bytes) -> bytes:
    """Without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=")


def bearer(token: bytes) -> list[tuple[bytes, bytes]]:
    """The headers of a request with a token."""
    return [(b"host", b"orders"), (b"authorization", b"Bearer " + token)]
