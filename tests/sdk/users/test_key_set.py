# SPDX-License-Identifier: Apache-2.0
"""Key sets: which JWK entries are keys, and which documents are refused."""

from __future__ import annotations

import json
import logging

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.users import KeySet
from kubetls_sdk.users.key_set import ALGORITHMS, MAX_KEYS
from tests.tokens import Signer

SIGNER = Signer("ES256")
PUBLIC = SIGNER.jwk()
PRIVATE = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(SIGNER.key)) | {"kid": "k1"}
RSA_PRIVATE = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(Signer("RS256").key))


def weak_rsa():
    key = rsa.generate_private_key(65537, 1024).public_key()  # noqa: S505 - weak on purpose
    return jwt.algorithms.RSAAlgorithm.to_jwk(key, as_dict=True)


def koblitz():
    key = ec.generate_private_key(ec.SECP256K1()).public_key()
    return jwt.algorithms.ECAlgorithm.to_jwk(key, as_dict=True)


def parse(*entries):
    return KeySet.parse(json.dumps({"keys": list(entries)}).encode())


class TestParse:
    @pytest.mark.parametrize(
        ("algorithm", "expected"),
        [
            ("RS256", ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
            ("ES256", ("ES256",)),
            ("ES384", ("ES384",)),
            ("EdDSA", ("EdDSA",)),
        ],
    )
    def test_algorithms(self, algorithm, expected):
        """A key verifies the algorithms of its type and curve."""
        assert parse(Signer(algorithm).jwk()).keys[0].algorithms == expected

    def test_alg(self):
        """A key that names its algorithm verifies no other."""
        assert parse(Signer("RS256").jwk(alg="RS384")).keys[0].algorithms == ("RS384",)

    @pytest.mark.parametrize(
        "entry",
        [
            pytest.param({"kty": "oct", "k": "c2VjcmV0", "kid": "k1"}, id="symmetric"),
            pytest.param({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}, id="symmetric HS256"),
            pytest.param(PUBLIC | {"alg": "HS256"}, id="public key for HS256"),
            pytest.param(PUBLIC | {"alg": "none"}, id="alg none"),
            pytest.param(PUBLIC | {"alg": "ES384"}, id="alg of another curve"),
            pytest.param(PUBLIC | {"alg": ["ES256"]}, id="alg a list"),
            pytest.param(PUBLIC | {"use": "enc"}, id="for encryption"),
            pytest.param(PUBLIC | {"use": "jwt-svid"}, id="for JWT-SVIDs"),
            pytest.param(PUBLIC | {"key_ops": ["sign"]}, id="for signing"),
            pytest.param(PUBLIC | {"key_ops": "verify"}, id="key_ops a text"),
            pytest.param(PUBLIC | {"kty": "XYZ"}, id="unknown type"),
            pytest.param(PUBLIC | {"kty": ["EC"]}, id="type a list"),
            pytest.param(PUBLIC | {"crv": "P-192"}, id="unknown curve"),
            pytest.param(PUBLIC | {"crv": ["P-256"]}, id="curve a list"),
            pytest.param(PUBLIC | {"x": PUBLIC["y"]}, id="not on the curve"),
            pytest.param(PUBLIC | {"x": 5}, id="x a number"),
            pytest.param({k: v for k, v in PUBLIC.items() if k != "y"}, id="no y"),
            pytest.param(PUBLIC | {"kid": 7}, id="kid a number"),
            pytest.param(PUBLIC | {"kid": "a\nb"}, id="kid with a line break"),
            pytest.param({"kty": "RSA", "n": "AQAB", "e": "AQAB"}, id="RSA of 17 bits"),
            pytest.param(weak_rsa(), id="RSA of 1024 bits"),
            pytest.param(koblitz(), id="secp256k1"),
            pytest.param("text", id="a text"),
            pytest.param(None, id="null"),
            pytest.param({}, id="empty"),
        ],
    )
    def test_passed_over(self, entry):
        """What is no signature key is no key, and its neighbours are."""
        assert len(parse(entry, Signer("ES384", kid="k2").jwk()).keys) == 1

    @pytest.mark.parametrize("entry", [PRIVATE, RSA_PRIVATE], ids=["EC", "RSA"])
    def test_private_key(self, entry, caplog):
        """An issuer that publishes its private key is told so, and the key verifies nothing."""
        caplog.set_level(logging.DEBUG)
        assert parse(entry).keys == ()
        assert "publishes a private key" in caplog.text
        assert entry["d"] not in caplog.text

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param(b"", "JSON", id="empty"),
            pytest.param(b"<html>", "JSON", id="HTML"),
            pytest.param(b"[]", "object", id="a list"),
            pytest.param(b"{}", "'keys'", id="no keys"),
            pytest.param(b'{"keys": {}}', "'keys'", id="keys an object"),
            pytest.param(b'{"keys": [], "keys": []}', "once", id="keys twice"),
            pytest.param(b'{"keys": [' + b"0," * MAX_KEYS + b"0]}", "at most", id="too many"),
            pytest.param(b" " * 600_000, "bytes", id="too long"),
            pytest.param(b'{"keys": "\xff"}', "UTF-8", id="not UTF-8"),
            pytest.param(b"[" * 100_000, "nested", id="nested without end"),
        ],
    )
    def test_refused(self, text, message):
        """What is no JWK Set is an error, not an empty set."""
        with pytest.raises(ConfigurationError, match=message):
            KeySet.parse(text)

    def test_no_keys(self):
        """An empty set is a legal document: it verifies nothing."""
        assert parse().keys == ()

    def test_repr(self):
        """The text of a set tells how many keys it has."""
        assert repr(parse(PUBLIC)) == "<KeySet of 1>"


class TestHas:
    def test_kid(self):
        """A key is found by its name; without a name any key will do."""
        keys = parse(PUBLIC)
        assert [keys.has("k1"), keys.has("k2"), keys.has(None)] == [True, False, True]
        assert not parse().has(None)


def test_algorithms_are_asymmetric():
    """Nothing that can be allowed is symmetric or absent."""
    assert not [each for each in ALGORITHMS if each.startswith("HS") or each.lower() == "none"]
