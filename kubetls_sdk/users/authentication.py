# SPDX-License-Identifier: Apache-2.0
"""Who is the end user of a request: the answer, without a single blocking call.

    with Users(settings, source=source) as users:
        found = await users.resolve(scope["headers"], caller(scope).peer)

Rules:
    1. A token is verified with the keys of its own issuer, or not at all.
    2. No token is None; a token that proves nothing is a `TokenRefused`, never None.
    3. `authenticate` never waits: when keys have to be fetched first it says so.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
from concurrent.futures import wait
from dataclasses import dataclass
from datetime import UTC, datetime
from hmac import compare_digest
from time import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.hashes import SHA256

from kubetls_sdk._lifetime import Lifetime
from kubetls_sdk.exceptions import ConfigurationError, CredentialError, SpiffeIdError
from kubetls_sdk.spiffe_id import SpiffeId, TrustDomain
from kubetls_sdk.users.bearer import find_token
from kubetls_sdk.users.claims import bound_thumbprint, check_claims, check_header
from kubetls_sdk.users.keys import BundleKeys
from kubetls_sdk.users.token import Token, shown
from kubetls_sdk.users.user import InvalidTokenError, TokenKind, TokenRefused, User, frozen
from kubetls_sdk.users.verified import Verified, VerifiedTokens

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Future
    from typing import Self

    from kubetls_sdk.source import Source
    from kubetls_sdk.users.key_set import KeySet
    from kubetls_sdk.users.keys import LiveKeys
    from kubetls_sdk.users.settings import UserSettings
    from kubetls_sdk.users.token_rules import TokenRules
    from kubetls_sdk.verification import VerifiedPeer

__all__ = ("KeysWanted", "Users")

_NOT_BOUND_TO_PEER = TokenRefused("the token is bound to another certificate than the caller's")
_NO_KEYS_IN_TIME = TokenRefused("the keys of the issuer are not available")
_MAX_WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class KeysWanted:
    """Keys have to be fetched before there is an answer.

    Attributes:
        flight: The fetch; done when asking again has an answer, whether or not it worked.
    """

    flight: Future[None]


Answer = User | TokenRefused | None


class Users(Lifetime):
    """Authenticates end users; a `with` context manager.

    Args:
        settings: Which tokens are accepted.
        source: Whose trust bundles hold the keys of JWT-SVIDs; needed for those only.

    Raises:
        ConfigurationError: JWT-SVIDs without a source.
    """

    def __init__(self, settings: UserSettings, *, source: Source | None = None) -> None:
        if settings.jwt_svids is not None and source is None:
            raise ConfigurationError("expected a source: JWT-SVIDs are verified by trust bundles")
        self.settings = settings
        self._source = source
        self._header = settings.header.encode()
        self._issuers = {issuer.name: issuer for issuer in settings.issuers}
        self._live: dict[str, LiveKeys] = {}
        self._known = VerifiedTokens(settings.remembered)
        self._opening = threading.Lock()
        self._is_open = False

    @property
    def issuers(self) -> tuple[str, ...]:
        """What `User.issuer` can be, as far as that is known: with JWT-SVIDs, ours included."""
        names = tuple(self._issuers)
        return names + tuple(f"spiffe://{domain}" for domain in self._trust_domains())

    def start(self) -> Self:
        """Read and begin to follow the keys; `with` does this.

        Raises:
            ConfigurationError: A key file cannot be used.
        """
        with self._opening:
            try:
                for issuer in self._issuers.values():
                    if issuer.name not in self._live:
                        self._live[issuer.name] = issuer.keys.open()
            except ConfigurationError:
                self._close_all()
                raise
            self._is_open = True
        return self

    def close(self) -> None:
        """End all threads; after that no token is accepted. May be called twice."""
        with self._opening:
            self._close_all()

    def authenticate(
        self,
        headers: Iterable[tuple[bytes, bytes]],
        peer: VerifiedPeer | None,
        *,
        now: float | None = None,
    ) -> Answer | KeysWanted:
        """Authenticate the user of a request without waiting for anything.

        Args:
            headers: All fields of the request.
            peer: Who is on the other end of the connection; None for an anonymous caller.
            now: Seconds since the epoch; the clock by default.

        Returns:
            The user, None when there is no token, why the token is refused, or that keys have to be
            fetched first.
        """
        found = find_token(headers, self._header, self.settings.max_token_bytes)
        if not isinstance(found, bytes):
            return found
        moment = time() if now is None else now
        digest = hashlib.sha256(found).digest()
        try:
            verified = self._recall(digest, moment) or self._verify(found, digest, moment)
        except InvalidTokenError as err:
            return TokenRefused(err.reason)
        if isinstance(verified, KeysWanted):
            return verified
        return verified.user if _is_bound_to(verified.thumbprint, peer) else _NOT_BOUND_TO_PEER

    async def resolve(
        self, headers: Iterable[tuple[bytes, bytes]], peer: VerifiedPeer | None
    ) -> Answer:
        """Authenticate, and wait for keys where that is needed; the event loop runs on."""
        fields = list(headers)
        answer = self.authenticate(fields, peer)
        if isinstance(answer, KeysWanted):
            waiting = asyncio.shield(asyncio.wrap_future(answer.flight))
            await asyncio.wait([waiting], timeout=_MAX_WAIT_SECONDS)
            answer = self.authenticate(fields, peer)
        return _NO_KEYS_IN_TIME if isinstance(answer, KeysWanted) else answer

    def resolve_blocking(
        self, headers: Iterable[tuple[bytes, bytes]], peer: VerifiedPeer | None
    ) -> Answer:
        """Do `resolve` in a thread that may wait, as those of a gRPC server."""
        fields = list(headers)
        answer = self.authenticate(fields, peer)
        if isinstance(answer, KeysWanted):
            wait([answer.flight], timeout=_MAX_WAIT_SECONDS)
            answer = self.authenticate(fields, peer)
        return _NO_KEYS_IN_TIME if isinstance(answer, KeysWanted) else answer

    def _close_all(self) -> None:
        self._is_open = False
        for live in self._live.values():
            live.close()
        self._live = {}
        self._known = VerifiedTokens(self.settings.remembered)

    def _recall(self, digest: bytes, now: float) -> Verified | KeysWanted | None:
        """What is known of a token, while its issuer's keys are those that verified it."""
        known = self._known.get(digest, now)
        if known is None:
            return None
        keys = _keys_now(known.live, known.kid)
        if keys is known.keys:
            return known
        return keys if isinstance(keys, KeysWanted) else None

    def _verify(self, text: bytes, digest: bytes, now: float) -> Verified | KeysWanted:
        token = Token.parse(text)
        name, rules, kind = self._profile(token)
        check_header(token, rules)
        live = self._keys_of(name, kind)
        keys = _keys_now(live, token.kid)
        if isinstance(keys, KeysWanted):
            return keys
        keys.verify(token)
        check_claims(token.claims, rules, now=now)
        thumbprint = bound_thumbprint(token.claims, rules)
        user = _user(name, kind, token.claims, rules.leeway_seconds)
        until = user.expires_at.timestamp()
        verified = Verified(user, thumbprint, until, token.kid, live, keys)
        self._known.add(digest, verified)
        return verified

    def _profile(self, token: Token) -> tuple[str, TokenRules, TokenKind]:
        """Which issuer's rules and keys a token is judged by: its claims only choose among ours."""
        name = token.claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is not None:
            return issuer.name, issuer, TokenKind.ACCESS_TOKEN
        if self.settings.jwt_svids is not None:
            domain = _trust_domain(token.claims.get("sub"))
            if domain is not None and domain in self._trust_domains():
                return f"spiffe://{domain}", self.settings.jwt_svids, TokenKind.JWT_SVID
        raise InvalidTokenError(f"expected a token of a configured issuer, got {shown(name)}")

    def _keys_of(self, name: str, kind: TokenKind) -> LiveKeys:
        live = self._live.get(name)
        if live is not None:
            return live
        if not self._is_open or kind is not TokenKind.JWT_SVID or self._source is None:
            raise InvalidTokenError("the keys of the issuer are not open")
        return self._live.setdefault(name, BundleKeys(self._source, TrustDomain.parse(name)))

    def _trust_domains(self) -> tuple[TrustDomain, ...]:
        rules = self.settings.jwt_svids
        if rules is None or self._source is None:
            return ()
        if rules.trust_domains:
            return rules.trust_domains
        try:
            return (self._source.snapshot.trust_domain,)
        except CredentialError:
            return ()


def _keys_now(live: LiveKeys, kid: str | None) -> KeySet | KeysWanted:
    keys = live.usable()
    if keys is not None and keys.has(kid):
        return keys
    flight = live.flight(kid)
    return live.last() if flight is None else KeysWanted(flight)


def _trust_domain(subject: object) -> TrustDomain | None:
    try:
        return SpiffeId.parse(subject).trust_domain  # type: ignore[arg-type] # it refuses non-text
    except SpiffeIdError:
        return None


def _user(issuer: str, kind: TokenKind, claims: dict[str, Any], leeway: float) -> User:
    # An `iss` that is not the issuer would let one trust domain name the users of another.
    verified = {name: frozen(value) for name, value in claims.items()} | {"iss": issuer}
    return User(
        issuer=issuer,
        subject=claims["sub"],
        claims=MappingProxyType(verified),
        expires_at=datetime.fromtimestamp(claims["exp"] + leeway, UTC),
        token_kind=kind,
    )


def _is_bound_to(thumbprint: str | None, peer: VerifiedPeer | None) -> bool:
    """Whether the token belongs to this peer (RFC 8705 §3.1)."""
    if thumbprint is None:
        return True
    if peer is None:
        return False
    digest = peer.leaf.fingerprint(SHA256())
    return compare_digest(base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), thumbprint)
