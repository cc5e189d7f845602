# SPDX-License-Identifier: Apache-2.0
"""What authenticating the end user adds to a request: a token seen before, and a new one."""

from __future__ import annotations

import itertools
import json
import time
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from benchmarks.measure import Measure, Spread
from kubetls_sdk.users import InlineKeys, Issuer, User, Users, UserSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 31
KNOWN, NEW = 2000, 50
_ISSUER, _AUDIENCE = "https://login.example.com/", "https://orders.example.com"
_FIELDS = [
    (b"host", b"orders:8443"),
    (b"user-agent", b"lg/1"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip"),
    (b"x-request-id", b"6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
]


def measures() -> Iterator[Measure]:
    """Microseconds a request."""
    for algorithm, key in (
        ("RS256", rsa.generate_private_key(65537, 2048)),
        ("ES256", ec.generate_private_key(ec.SECP256R1())),
    ):
        yield from _measures(algorithm, key)


def _measures(algorithm: str, key: Any) -> Iterator[Measure]:
    kind = jwt.algorithms.RSAAlgorithm if algorithm == "RS256" else jwt.algorithms.ECAlgorithm
    entry = json.loads(kind.to_jwk(key.public_key())) | {"kid": "k1", "use": "sig"}
    keys = InlineKeys.parse(json.dumps({"keys": [entry]}))
    issuer = Issuer(name=_ISSUER, audiences=_AUDIENCE, keys=keys)
    numbers = itertools.count()
    with Users(UserSettings(issuers=(issuer,), remembered=ROUNDS * NEW + 1)) as users:
        known = [_request(_token(algorithm, key, next(numbers)))] * KNOWN
        fresh = [_token(algorithm, key, next(numbers)) for _ in range(ROUNDS * NEW)]
        raw: list[float] = []
        ours: list[float] = []
        for start in range(0, len(fresh), NEW):
            tokens = fresh[start : start + NEW]
            public = key.public_key()
            raw.append(_time(lambda token, k=public: _decode(token, k, algorithm), tokens))
            ours.append(_time(_ask(users), [_request(token) for token in tokens]))
        again = Spread.of([_time(_ask(users), known) for _ in range(ROUNDS)])
    against = f"PyJWT alone, {Spread.of(raw).median:.0f} us"
    yield Measure(
        f"users: known token, {algorithm}", again.median, "us", 5.0, "lower", against, again
    )
    spread = Spread.of(ours)
    yield Measure(
        f"users: new token, {algorithm}", spread.median, "us", None, "lower", against, spread
    )
    yield Measure.ratio(
        f"users: new token against PyJWT, {algorithm}",
        Spread.of_ratios(ours, raw),
        goal=1.5,
        better="lower",
        peer=against,
    )


def _token(algorithm: str, key: Any, number: int) -> bytes:
    now = int(time.time())
    claims = {"iss": _ISSUER, "aud": _AUDIENCE, "sub": "alice", "iat": now, "exp": now + 3600}
    claims |= {"jti": str(number), "scope": "orders:read orders:write", "client_id": "shop"}
    headers = {"kid": "k1", "typ": "at+jwt"}
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers).encode()


def _request(token: bytes) -> list[tuple[bytes, bytes]]:
    return [*_FIELDS, (b"authorization", b"Bearer " + token)]


def _ask(users: Users) -> Callable[[Any], None]:
    def ask(headers: Any) -> None:
        if type(users.authenticate(headers, None)) is not User:
            raise RuntimeError("expected a user")

    return ask


def _decode(token: bytes, key: Any, algorithm: str) -> None:
    jwt.decode(token, key, algorithms=[algorithm], audience=_AUDIENCE, issuer=_ISSUER)


def _time(call: Callable[[Any], None], arguments: list[Any]) -> float:
    started = time.perf_counter()
    for each in arguments:
        call(each)
    return (time.perf_counter() - started) / len(arguments) * 1e6
