# SPDX-License-Identifier: Apache-2.0
"""Tokens that authenticate nobody, each with the reason that the log gets."""

from __future__ import annotations

import base64
import json
import logging
import time

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kubetls_sdk.users import InlineKeys, Issuer, TokenRefused, User, Users, UserSettings
from tests.tokens import AUDIENCE, ISSUER, Signer, access_claims, base64url, bearer

SIGNER = Signer("ES256")
STRANGER = Signer("ES256", number=1)
RSA = Signer("RS256", kid="rsa")
NOW = int(time.time())


def settings(*signers, **rules):
    keys = InlineKeys.parse(json.dumps({"keys": [each.jwk() for each in signers or (SIGNER, RSA)]}))
    return UserSettings(
        issuers=(Issuer(**{"name": ISSUER, "audiences": AUDIENCE, "keys": keys, **rules}),)
    )


@pytest.fixture(scope="module")
def users():
    with Users(settings()) as opened:
        yield opened


def answer(users, token):
    return users.authenticate(bearer(token), None)


def hmac_with(secret: bytes) -> bytes:
    """HS256 as an attacker would compute it: PyJWT refuses to use a public key as secret."""
    header = json.dumps({"alg": "HS256", "typ": "at+jwt", "kid": "rsa"}).encode()
    text = base64url(header) + b"." + base64url(json.dumps(access_claims()).encode())
    import hashlib
    import hmac

    return text + b"." + base64url(hmac.new(secret, text, hashlib.sha256).digest())


def unsigned(algorithm: str) -> bytes:
    header = base64url(json.dumps({"alg": algorithm, "typ": "at+jwt"}).encode())
    return header + b"." + base64url(json.dumps(access_claims()).encode()) + b"."


def payload(text: str) -> bytes:
    return SIGNER.signed(text.encode())


def with_claim(name: str, value: str) -> bytes:
    """A signed token where one claim is written out as JSON text."""
    claims = access_claims()
    claims.pop(name, None)
    return payload(json.dumps(claims)[:-1] + f', "{name}": {value}}}')


def tampered() -> bytes:
    head, _, signature = SIGNER.token().split(b".")
    return b".".join((head, base64url(json.dumps(access_claims(sub="root")).encode()), signature))


def noncanonical() -> bytes:
    """The same signature, spelled with other unused bits at its end."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token = SIGNER.token()
    last = alphabet.index(token[-1:])
    return token[:-1] + alphabet[last ^ 1 : (last ^ 1) + 1]


def embedded_key(name: str, value: object) -> bytes:
    return STRANGER.token(header={name: value})


PUBLIC_PEM = RSA.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
PUBLIC_DER = RSA.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

ATTACKS = {
    # Signature and algorithm.
    "signed by a stranger": (STRANGER.token(), "signature"),
    "payload replaced": (tampered(), "signature"),
    "alg none": (unsigned("none"), "segments"),
    "alg None with a signature": (SIGNER.token({"alg": "none"}), "alg"),
    "alg nOnE": (SIGNER.token({"alg": "nOnE"}), "alg"),
    "alg missing": (SIGNER.token({"alg": None}), "alg"),
    "alg a list": (SIGNER.token({"alg": ["ES256"]}), "alg"),
    "alg empty": (SIGNER.token({"alg": ""}), "alg"),
    "HMAC with the public key as PEM": (hmac_with(PUBLIC_PEM), "alg"),
    "HMAC with the public key as DER": (hmac_with(PUBLIC_DER), "alg"),
    "HMAC with the JWK": (hmac_with(json.dumps(RSA.jwk()).encode()), "alg"),
    "alg of another key type": (SIGNER.token({"alg": "RS256"}), "kid and alg"),
    "alg of another curve": (SIGNER.token({"alg": "ES384"}), "kid and alg"),
    "alg secp256k1": (SIGNER.token({"alg": "ES256K"}), "alg"),
    "padded signature": (SIGNER.token() + b"=", "segments"),
    "other spelling of the signature": (noncanonical(), "canonical"),
    # Header.
    "jwk in the header": (embedded_key("jwk", STRANGER.jwk()), "signature"),
    "jwk and no kid": (STRANGER.token({"kid": None, "jwk": STRANGER.jwk()}), "signature"),
    "jku in the header": (embedded_key("jku", "https://evil.test/jwks"), "signature"),
    "x5u in the header": (embedded_key("x5u", "https://evil.test/cert"), "signature"),
    "x5c in the header": (embedded_key("x5c", ["MIIB"]), "signature"),
    "crit": (SIGNER.token({"crit": ["exp"], "exp": 1}), "crit"),
    "crit b64": (SIGNER.token({"crit": ["b64"], "b64": True}), "crit"),
    "crit empty": (SIGNER.token({"crit": []}), "crit"),
    "b64": (SIGNER.token({"b64": True}), "b64"),
    "encrypted": (SIGNER.token({"enc": "A256GCM"}), "enc"),
    "compressed": (SIGNER.token({"zip": "DEF"}), "zip"),
    "unknown kid": (SIGNER.token({"kid": "k2"}), "kid"),
    "kid of the other key": (SIGNER.token({"kid": "rsa"}), "kid and alg"),
    "kid a number": (SIGNER.token({"kid": 1}), "kid"),
    "kid a list": (SIGNER.token({"kid": ["k1"]}), "kid"),
    "kid with a line break": (SIGNER.token({"kid": "k1\n"}), "kid"),
    "kid a path": (SIGNER.token({"kid": "../../dev/null"}), "kid"),
    "kid huge": (SIGNER.token({"kid": "k" * 300}), "kid"),
    "typ of an ID token": (SIGNER.token({"typ": "JWT"}), "typ"),
    "typ missing": (SIGNER.token({"typ": None}), "typ"),
    "typ a list": (SIGNER.token({"typ": ["at+jwt"]}), "typ"),
    "typ of a logout token": (SIGNER.token({"typ": "logout+jwt"}), "typ"),
    "header twice the same key": (
        SIGNER.signed_raw(
            b'{"alg":"none","typ":"at+jwt","kid":"k1","alg":"ES256"}',
            json.dumps(access_claims()).encode(),
        ),
        "once",
    ),
    "header a list": (SIGNER.signed_raw(b"[]", b"{}"), "object"),
    # Claims.
    "iss unknown": (SIGNER.token(iss="https://evil.test/"), "issuer"),
    "iss missing": (SIGNER.token(iss=None), "issuer"),
    "iss a list": (SIGNER.token(iss=[ISSUER]), "issuer"),
    "iss nested": (SIGNER.token(iss=[[ISSUER]]), "issuer"),
    "iss an object": (SIGNER.token(iss={ISSUER: 1}), "issuer"),
    "iss with a slash more": (SIGNER.token(iss=ISSUER + "/"), "issuer"),
    "iss with a NUL": (SIGNER.token(iss=ISSUER + "\0"), "issuer"),
    "iss in other case": (SIGNER.token(iss=ISSUER.upper()), "issuer"),
    "sub missing": (SIGNER.token(sub=None), "sub"),
    "sub empty": (SIGNER.token(sub=""), "sub"),
    "sub a list": (SIGNER.token(sub=["alice"]), "sub"),
    "sub a number": (SIGNER.token(sub=1), "sub"),
    "sub with a NUL": (SIGNER.token(sub="alice\0"), "sub"),
    "sub with a line break": (SIGNER.token(sub="alice\nbob"), "sub"),
    "sub with a surrogate": (with_claim("sub", '"\\ud800"'), "sub"),
    "sub huge": (SIGNER.token(sub="a" * 3000), "sub"),
    "aud missing": (SIGNER.token(aud=None), "aud"),
    "aud of others": (SIGNER.token(aud="https://billing.example.com"), "audience"),
    "aud a prefix": (SIGNER.token(aud=AUDIENCE[:-1]), "audience"),
    "aud empty": (SIGNER.token(aud=""), "aud"),
    "aud an empty list": (SIGNER.token(aud=[]), "aud"),
    "aud nested": (SIGNER.token(aud=[[AUDIENCE]]), "aud"),
    "aud with a number": (SIGNER.token(aud=[AUDIENCE, 1]), "aud"),
    "aud an object": (SIGNER.token(aud={AUDIENCE: True}), "aud"),
    "exp missing": (SIGNER.token(exp=None), "exp"),
    "exp null": (with_claim("exp", "null"), "exp"),
    "exp past": (SIGNER.token(exp=NOW - 31), "expired"),
    "exp a text": (SIGNER.token(exp=str(NOW + 300)), "integer"),
    "exp a fraction": (SIGNER.token(exp=NOW + 300.5), "integer"),
    "exp true": (SIGNER.token(exp=True), "integer"),
    "exp a list": (SIGNER.token(exp=[NOW + 300]), "integer"),
    "exp negative": (SIGNER.token(exp=-1), "integer"),
    "exp after the last year": (SIGNER.token(exp=10**12), "integer"),
    "exp beyond all bounds": (with_claim("exp", "1" * 400), "integer"),
    "exp with too many digits": (with_claim("exp", "1" * 5000), "digits"),
    "exp infinite": (with_claim("exp", "Infinity"), "Infinity"),
    "exp 1e999": (with_claim("exp", "1e999"), "integer"),
    "nbf in the future": (SIGNER.token(nbf=NOW + 1000), "nbf"),
    "nbf a text": (SIGNER.token(nbf="0"), "integer"),
    "iat in the future": (SIGNER.token(iat=NOW + 1000), "iat"),
    "iat null": (with_claim("iat", "null"), "integer"),
    "sub twice": (payload(json.dumps(access_claims())[:-1] + ', "sub": "root"}'), "once"),
    "duplicate key deep inside": (with_claim("act", '{"sub": "a", "sub": "b"}'), "once"),
    "payload a list": (payload("[]"), "object"),
    "payload a token": (SIGNER.signed(SIGNER.token()), "JSON"),
    "payload not UTF-8": (SIGNER.signed(b'{"sub": "\xff"}'), "UTF-8"),
    "payload in UTF-16": (SIGNER.signed(json.dumps(access_claims()).encode("utf-16")), "UTF-8"),
    "payload nested without end": (payload("[" * 9000), "JSON"),
    "claim nested too deep": (with_claim("act", "[" * 400 + "]" * 400), "nested at most"),
    "cnf not understood": (SIGNER.token(cnf={"jkt": "x"}), "bound"),
    "cnf of a certificate, anonymous caller": (
        SIGNER.token(cnf={"x5t#S256": "A" * 43}),
        "another certificate",
    ),
    "cnf a text": (SIGNER.token(cnf="A" * 43), "bound"),
    "cnf a short thumbprint": (SIGNER.token(cnf={"x5t#S256": "A" * 42}), "bound"),
    # Form.
    "no token after Bearer": (b"", "token"),
    "one segment": (b"abc", "segments"),
    "two segments": (b"e30.e30", "segments"),
    "four segments": (SIGNER.token() + b".e30", "segments"),
    "an encrypted token's five": (b"e30.e30.e30.e30.e30", "segments"),
    "JSON serialisation": (b'{"payload":"e30","signatures":[]}', "segments"),
    "a NUL in it": (SIGNER.token().replace(b".", b".\0", 1), "segments"),
    "a line break at its end": (SIGNER.token() + b"\n", "segments"),
    "a comma and another token": (SIGNER.token() + b"," + SIGNER.token(), "segments"),
    "standard base64": (SIGNER.token()[:-1] + b"+", "segments"),
    "not ASCII": (SIGNER.token() + b"\xc3\xa9", "segments"),
    "huge": (SIGNER.token(note="x" * 20000), "long"),
    "impossible base64 length": (b"e30.e30.AAAAA", "canonical"),
}


class TestAttacks:
    @pytest.mark.parametrize(("token", "reason"), ATTACKS.values(), ids=ATTACKS.keys())
    def test_refused(self, users, token, reason):
        """The token authenticates nobody, and the reason names what is wrong with it."""
        found = answer(users, token)
        assert isinstance(found, TokenRefused)
        assert reason in found.reason

    @pytest.mark.parametrize(("token", "reason"), ATTACKS.values(), ids=ATTACKS.keys())
    def test_nothing_of_the_token_is_told(self, users, token, reason, caplog):
        """Neither a log line nor the refusal holds a segment of the token."""
        caplog.set_level(logging.DEBUG)
        found = answer(users, token)
        told = caplog.text + repr(found) + found.reason + found.challenge
        segments = [s.decode("latin-1") for s in token.split(b".") if len(s) > 8]
        assert [each for each in segments if each in told] == []

    def test_the_caller_learns_no_reason(self, users):
        """RFC 6750's error code is all that an answer says."""
        assert answer(users, b"e30.e30.e30").challenge == 'Bearer error="invalid_token"'

    @pytest.mark.parametrize("signer", [SIGNER, RSA], ids=["ES256", "RS256"])
    def test_control(self, users, signer):
        """The same tokens, unharmed, are accepted: the table refuses for what it says."""
        assert isinstance(answer(users, signer.token()), User)

    def test_peculiar_but_right(self, users):
        """What the standards allow is accepted: media type in full, several audiences, no kid."""
        token = SIGNER.token(
            {"typ": "application/AT+JWT", "kid": None}, aud=["https://x.test", AUDIENCE]
        )
        assert isinstance(answer(users, token), User)


class TestKeyConfusion:
    def test_key_of_another_issuer(self):
        """An issuer's key proves nothing about another issuer's users, with the same kid too."""
        other = Signer("ES256", number=1)
        config = UserSettings(
            issuers=(
                *settings(SIGNER).issuers,
                Issuer(
                    name="https://partner.test/",
                    audiences=AUDIENCE,
                    keys=InlineKeys.parse(other.jwks()),
                ),
            )
        )
        with Users(config) as users:
            assert isinstance(answer(users, other.token()), TokenRefused)
            assert isinstance(
                answer(users, SIGNER.token(iss="https://partner.test/")), TokenRefused
            )
            found = answer(users, other.token(iss="https://partner.test/"))
            assert isinstance(found, User)
            assert (found.issuer, found.subject) == ("https://partner.test/", "alice")

    def test_no_kid_and_two_keys(self):
        """Without a kid there has to be exactly one key to choose."""
        with Users(settings(SIGNER, Signer("ES256", kid="k2", number=1))) as users:
            assert "apart" in answer(users, SIGNER.token({"kid": None})).reason

    def test_algorithm_that_is_not_allowed(self):
        """A right signature with an algorithm that the issuer may not use is refused."""
        with Users(settings(algorithms=["RS256"])) as users:
            assert "RS256" in answer(users, SIGNER.token()).reason
            assert isinstance(answer(users, RSA.token()), User)

    def test_alg_of_the_jwk(self):
        """A key that is published for PS256 verifies no RS256."""
        text = json.dumps({"keys": [RSA.jwk(alg="PS256")]})
        with Users(settings(keys=InlineKeys.parse(text))) as users:
            assert isinstance(answer(users, RSA.token()), TokenRefused)

    def test_pss_beside_pkcs1(self):
        """A key without alg verifies both RSA paddings, each by its own name only."""
        claims = access_claims()
        headers = {"typ": "at+jwt", "kid": "rsa"}
        good = jwt.encode(claims, RSA.key, algorithm="PS256", headers=headers).encode()
        wrong = RSA.token({"alg": "PS256"})
        with Users(settings(RSA)) as users:
            assert isinstance(answer(users, good), User)
            assert "signature" in answer(users, wrong).reason

    def test_no_keys(self):
        """An issuer without keys authenticates nobody."""
        with Users(settings(keys=InlineKeys.parse('{"keys": []}'))) as users:
            assert isinstance(answer(users, SIGNER.token()), TokenRefused)

    def test_base64_of_the_header_is_what_was_signed(self, users):
        """A header that says the same in another spelling has another signature."""
        head, rest = SIGNER.token().split(b".", 1)
        spelled = base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)).replace(b" ", b"")
        assert isinstance(answer(users, base64url(spelled) + b"." + rest), TokenRefused)
