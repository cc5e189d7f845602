# SPDX-License-Identifier: Apache-2.0
"""Users: who is accepted, what is known of them, what is remembered, and what binds a token."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from concurrent.futures import Future
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from kubetls_sdk import StaticSource, TrustBundle, TrustBundleSet, TrustDomain, verify_svid
from kubetls_sdk.exceptions import ConfigurationError, SourceClosedError
from kubetls_sdk.testing import DevelopmentCA
from kubetls_sdk.users import (
    InlineKeys,
    Issuer,
    JwtSvids,
    KeyFile,
    KeySet,
    KeysWanted,
    TokenKind,
    TokenRefused,
    User,
    Users,
    UserSettings,
)
from tests.tokens import AUDIENCE, ISSUER, Signer, base64url, bearer

SIGNER = Signer("ES256")


class SwitchedKeys:
    """Keys that a test replaces; with a flight they have to be waited for."""

    def __init__(self, keys):
        self.keys = keys
        self.flying = None
        self.verified = 0

    def open(self):
        return self

    def usable(self):
        return self.keys if self.flying is None else None

    def flight(self, kid):
        del kid
        return self.flying

    def last(self):
        return self.keys

    def close(self):
        self.keys = KeySet()


class SourceSwitch:
    """A source that a test closes."""

    def __init__(self, source):
        self._source = source
        self.is_closed = False

    @property
    def snapshot(self):
        if self.is_closed:
            raise SourceClosedError("closed")
        return self._source.snapshot

    def subscribe(self, callback):
        return self._source.subscribe(callback)


@pytest.fixture
def keys():
    return SwitchedKeys(KeySet.parse(SIGNER.jwks().encode()))


@pytest.fixture
def make_users(keys):
    opened = []

    def make(*, remembered=4096, **rules):
        issuer = Issuer(**{"name": ISSUER, "audiences": AUDIENCE, "keys": keys, **rules})
        opened.append(Users(UserSettings(issuers=(issuer,), remembered=remembered)).start())
        return opened[-1]

    yield make
    for users in opened:
        users.close()


@pytest.fixture(scope="module")
def ca():
    return DevelopmentCA("example.org")


def peer_of(ca, path="/ns/shop/sa/web"):
    svid = ca.issue(path)
    return verify_svid(svid.chain, bundles=TrustBundleSet([ca.bundle]), now=datetime.now(UTC))


def bound_to(peer):
    return {"x5t#S256": base64url(peer.leaf.fingerprint(SHA256())).decode()}


class TestAuthenticate:
    @pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "EdDSA"])
    def test_user(self, algorithm):
        """A good token of each kind of key authenticates the pair of issuer and subject."""
        signer = Signer(algorithm)
        issuer = Issuer(name=ISSUER, audiences=AUDIENCE, keys=InlineKeys.parse(signer.jwks()))
        with Users(UserSettings(issuers=(issuer,))) as users:
            found = users.authenticate(bearer(signer.token()), None)
        assert isinstance(found, User)
        assert (found.issuer, found.subject) == (ISSUER, "alice")
        assert found.token_kind is TokenKind.ACCESS_TOKEN

    def test_no_token(self, make_users):
        """A request without a token has no user, which is not a refusal."""
        assert make_users().authenticate([(b"host", b"orders")], None) is None

    def test_expiry(self, make_users):
        """The user expires with the token, clock skew included."""
        exp = int(time.time()) + 60
        found = make_users(leeway_seconds=10).authenticate(bearer(SIGNER.token(exp=exp)), None)
        assert found.expires_at == datetime.fromtimestamp(exp + 10, UTC)

    def test_claims_are_frozen(self, make_users):
        """Nobody changes the claims of a user who is shared between requests."""
        found = make_users().authenticate(bearer(SIGNER.token(a={"b": [1, {"c": 2}]})), None)
        assert found.claims["a"]["b"][1]["c"] == 2
        assert isinstance(found.claims["a"]["b"], tuple)
        with pytest.raises(TypeError):
            found.claims["sub"] = "root"
        with pytest.raises(TypeError):
            found.claims["a"]["b"][1]["c"] = 3

    def test_user_tells_no_token(self, make_users, caplog):
        """Neither repr, nor claims, nor the log of a success hold the token."""
        caplog.set_level(logging.DEBUG)
        token = SIGNER.token()
        found = make_users().authenticate(bearer(token), None)
        told = caplog.text + repr(found) + str(found) + repr(dict(found.claims))
        assert not [s for s in token.decode().split(".") if s in told]
        assert not hasattr(found, "__dict__")

    def test_required_claims(self, make_users):
        """A claim that is required has to say something."""
        users = make_users(required_claims=["client_id"])
        assert "client_id" in users.authenticate(bearer(SIGNER.token()), None).reason
        assert "client_id" in users.authenticate(bearer(SIGNER.token(client_id="")), None).reason
        assert isinstance(users.authenticate(bearer(SIGNER.token(client_id="shop")), None), User)

    def test_configured_type(self, make_users):
        """Another typ, or none, is accepted only where it is configured."""
        users = make_users(types=["JWT", "absent"])
        assert isinstance(users.authenticate(bearer(SIGNER.token({"typ": "jwt"})), None), User)
        assert isinstance(users.authenticate(bearer(SIGNER.token({"typ": None})), None), User)
        assert isinstance(users.authenticate(bearer(SIGNER.token()), None), TokenRefused)

    @pytest.mark.parametrize(
        ("claims", "late", "accepted"),
        [
            pytest.param({"exp": 1000}, 1029.9, True, id="expired within the skew"),
            pytest.param({"exp": 1000}, 1030, False, id="expired with the skew"),
            pytest.param({"exp": 2000, "nbf": 1030}, 1000, True, id="begins within the skew"),
            pytest.param({"exp": 2000, "nbf": 1031}, 1000, False, id="begins after the skew"),
            pytest.param({"exp": 2000, "iat": 1031}, 1000, False, id="issued after the skew"),
        ],
    )
    def test_clock_skew(self, make_users, claims, late, accepted):
        """Clocks may differ by the leeway and no more."""
        token = SIGNER.token(**{"iat": None, **claims})
        found = make_users().authenticate(bearer(token), None, now=late)
        assert isinstance(found, User) is accepted

    def test_closed(self, make_users):
        """After the end nobody is authenticated, whoever was known."""
        users = make_users()
        token = bearer(SIGNER.token())
        assert isinstance(users.authenticate(token, None), User)
        users.close()
        assert isinstance(users.authenticate(token, None), TokenRefused)

    def test_not_started(self, keys):
        """Before the start nobody is authenticated."""
        issuer = Issuer(name=ISSUER, audiences=AUDIENCE, keys=keys)
        users = Users(UserSettings(issuers=(issuer,)))
        assert isinstance(users.authenticate(bearer(SIGNER.token()), None), TokenRefused)


class TestStart:
    def test_all_or_nothing(self, keys, tmp_path):
        """A key file that cannot be used ends the start, and what was opened before it."""
        closed = []
        keys.close = lambda: closed.append(True)
        good = Issuer(name=ISSUER, audiences=AUDIENCE, keys=keys)
        file = KeyFile(path=tmp_path / "none.json")
        bad = Issuer(name="https://partner.test/", audiences=AUDIENCE, keys=file)
        users = Users(UserSettings(issuers=(good, bad)))
        with pytest.raises(ConfigurationError, match=r"none\.json"):
            users.start()
        assert closed == [True]
        assert isinstance(users.authenticate(bearer(SIGNER.token()), None), TokenRefused)

    def test_twice(self, make_users):
        """Starting again opens nothing again."""
        users = make_users()
        live = dict(users._live)
        assert users.start()._live == live


class TestRemembered:
    def test_same_user(self, make_users):
        """A known token gives the same user again, without a signature to check."""
        users = make_users()
        token = bearer(SIGNER.token())
        assert users.authenticate(token, None) is users.authenticate(token, None)

    def test_until_it_expires(self, make_users):
        """A known token is refused once it has expired."""
        users = make_users()
        token = bearer(SIGNER.token(exp=1000, iat=None))
        assert isinstance(users.authenticate(token, None, now=1000), User)
        assert "expired" in users.authenticate(token, None, now=1031).reason

    def test_until_its_key_is_removed(self, make_users, keys):
        """A known token is refused once its key is not published any more."""
        users = make_users()
        token = bearer(SIGNER.token())
        assert isinstance(users.authenticate(token, None), User)
        keys.keys = KeySet.parse(Signer("ES256", number=1).jwks().encode())
        assert isinstance(users.authenticate(token, None), TokenRefused)

    def test_keys_to_fetch_first(self, make_users, keys):
        """A known token waits as well when the keys have to be fetched."""
        users = make_users()
        token = bearer(SIGNER.token())
        users.authenticate(token, None)
        keys.flying = Future()
        assert users.authenticate(token, None) == KeysWanted(keys.flying)

    def test_bounded(self, make_users):
        """The oldest tokens make room, and a hit does not drive others out."""
        users = make_users(remembered=2)
        tokens = [bearer(SIGNER.token(jti=str(number))) for number in range(3)]
        first, second, third = (users.authenticate(each, None) for each in tokens)
        assert users.authenticate(tokens[1], None) is second
        assert users.authenticate(tokens[2], None) is third
        assert users.authenticate(tokens[1], None) is second
        assert users.authenticate(tokens[0], None) is not first

    def test_refusals_are_not_kept(self, make_users):
        """Nobody fills the memory with tokens that prove nothing."""
        users = make_users()
        users.authenticate(bearer(Signer("ES256", number=1).token()), None)
        assert len(users._known) == 0


class TestWaiting:
    def test_says_that_keys_are_wanted(self, make_users, keys):
        """Without keys at hand the answer is what to wait for, at once."""
        keys.flying = Future()
        assert make_users().authenticate(bearer(SIGNER.token()), None) == KeysWanted(keys.flying)

    def test_resolve(self, make_users, keys):
        """Once the keys are there, who has waited gets the answer."""
        users = make_users()
        keys.flying = Future()

        async def run():
            waiting = asyncio.ensure_future(users.resolve(bearer(SIGNER.token()), None))
            await asyncio.sleep(0)
            assert not waiting.done()
            flying, keys.flying = keys.flying, None
            flying.set_result(None)
            return await waiting

        assert isinstance(asyncio.run(run()), User)

    def test_one_who_gives_up_ends_nothing(self, make_users, keys):
        """A cancelled request leaves the fetch to the others."""
        users = make_users()
        keys.flying = Future()

        async def run():
            one = asyncio.ensure_future(users.resolve(bearer(SIGNER.token()), None))
            other = asyncio.ensure_future(users.resolve(bearer(SIGNER.token()), None))
            await asyncio.sleep(0)
            one.cancel()
            await asyncio.sleep(0)
            assert not keys.flying.cancelled()
            flying, keys.flying = keys.flying, None
            flying.set_result(None)
            return await other

        assert isinstance(asyncio.run(run()), User)

    def test_waits_once(self, make_users, keys):
        """Keys that are still wanted after the wait refuse the token: nobody waits for ever."""
        keys.flying = Future()
        keys.flying.set_result(None)
        users = make_users()
        found = asyncio.run(users.resolve(bearer(SIGNER.token()), None))
        assert "not available" in found.reason
        assert users.resolve_blocking(bearer(SIGNER.token()), None) == found

    def test_resolve_without_a_wait(self, make_users):
        """With the keys at hand `resolve` and `resolve_blocking` say what `authenticate` says."""
        users = make_users()
        token = bearer(SIGNER.token())
        assert asyncio.run(users.resolve(token, None)) is users.resolve_blocking(token, None)


class TestCertificateBound:
    def test_own_certificate(self, make_users, ca):
        """A bound token authenticates on a connection with its certificate."""
        peer = peer_of(ca)
        token = SIGNER.token(cnf=bound_to(peer))
        for setting in ("required", "if_present", "off"):
            users = make_users(certificate_bound=setting)
            assert isinstance(users.authenticate(bearer(token), peer), User)

    @pytest.mark.parametrize("setting", ["required", "if_present"])
    def test_stolen(self, make_users, ca, setting):
        """A bound token on another connection is refused, known or not."""
        mine, thief = peer_of(ca), peer_of(ca, "/ns/shop/sa/thief")
        token = bearer(SIGNER.token(cnf=bound_to(mine)))
        users = make_users(certificate_bound=setting)
        assert isinstance(users.authenticate(token, thief), TokenRefused)
        assert isinstance(users.authenticate(token, mine), User)
        assert isinstance(users.authenticate(token, thief), TokenRefused)
        assert isinstance(users.authenticate(token, None), TokenRefused)

    def test_same_identity_with_another_certificate(self, make_users, ca):
        """The certificate counts, not the identity: after a rotation a new token is needed."""
        token = SIGNER.token(cnf=bound_to(peer_of(ca)))
        found = make_users().authenticate(bearer(token), peer_of(ca))
        assert isinstance(found, TokenRefused)

    def test_bearer_token(self, make_users, ca):
        """A token that is bound to nothing is refused only where binding is required."""
        token = bearer(SIGNER.token())
        assert isinstance(make_users().authenticate(token, peer_of(ca)), User)
        required = make_users(certificate_bound="required")
        assert "bound" in required.authenticate(token, peer_of(ca)).reason


class TestJwtSvid:
    @pytest.fixture
    def world(self, ca):
        own, partner = Signer("ES256"), Signer("ES256", number=1)
        other = DevelopmentCA("partner.example")

        def bundle(authority, signer):
            return TrustBundle(
                authority.bundle.trust_domain,
                authority.bundle.authorities,
                jwt_authorities={"k1": signer.jwk(use="jwt-svid")},
            )

        source = StaticSource(
            ca.issue("/ns/shop/sa/orders"),
            TrustBundleSet([bundle(ca, own), bundle(other, partner)]),
        )
        return source, own, partner

    def svid(self, signer, **claims):
        header = {"typ": "JWT"} | claims.pop("header", {})
        subject = {"iss": None, "sub": "spiffe://example.org/ns/shop/sa/batch"}
        return bearer(signer.token(header, **(subject | claims)))

    def users(self, source, issuers=(), **rules):
        svids = JwtSvids(audiences=AUDIENCE, **rules)
        return Users(UserSettings(jwt_svids=svids, issuers=issuers), source=source)

    def test_user(self, world):
        """A JWT-SVID authenticates its subject; the issuer is the trust domain."""
        source, own, _ = world
        with self.users(source) as users:
            found = users.authenticate(self.svid(own), None)
        assert (found.issuer, found.subject) == (
            "spiffe://example.org",
            "spiffe://example.org/ns/shop/sa/batch",
        )
        assert found.token_kind is TokenKind.JWT_SVID
        assert found.claims["iss"] == "spiffe://example.org"

    @pytest.mark.parametrize(
        ("claims", "reason"),
        [
            pytest.param({"sub": "alice"}, "issuer", id="sub no SPIFFE ID"),
            pytest.param({"sub": "spiffe://Example.org/x"}, "issuer", id="sub upper case"),
            pytest.param({"sub": ["spiffe://example.org/x"]}, "issuer", id="sub a list"),
            pytest.param({"sub": None}, "issuer", id="no sub"),
            pytest.param({"aud": None}, "aud", id="no aud"),
            pytest.param({"aud": "other"}, "audience", id="aud of others"),
            pytest.param({"exp": None}, "exp", id="no exp"),
            pytest.param({"header": {"alg": "EdDSA"}}, "alg", id="EdDSA"),
            pytest.param({"header": {"alg": "HS256"}}, "alg", id="HS256"),
            pytest.param({"header": {"typ": "wit+jwt"}}, "typ", id="a WIT-SVID"),
            pytest.param({"header": {"typ": "at+jwt"}}, "typ", id="an access token"),
            pytest.param({"header": {"kid": "k9"}}, "kid", id="unknown key"),
        ],
    )
    def test_refused(self, world, claims, reason):
        """What breaks the JWT-SVID specification authenticates nobody."""
        source, own, _ = world
        with self.users(source) as users:
            assert reason in users.authenticate(self.svid(own, **claims), None).reason

    def test_forged_by_another_domain(self, world):
        """The key of a trusted domain proves nobody of another one."""
        source, _, partner = world
        both = (TrustDomain("example.org"), TrustDomain("partner.example"))
        with self.users(source, trust_domains=both) as users:
            assert "signature" in users.authenticate(self.svid(partner), None).reason

    def test_other_domain_only_by_name(self, world):
        """A trusted domain issues no users unless it is named."""
        source, _, partner = world
        token = self.svid(partner, sub="spiffe://partner.example/x")
        with self.users(source) as users:
            assert isinstance(users.authenticate(token, None), TokenRefused)
        with self.users(source, trust_domains=(TrustDomain("partner.example"),)) as users:
            assert users.authenticate(token, None).issuer == "spiffe://partner.example"

    def test_iss_of_somebody_else(self, world):
        """A domain cannot name users of an issuer: its `iss` is never believed."""
        source, own, _ = world
        with self.users(source) as users:
            found = users.authenticate(self.svid(own, iss="https://bank.test/"), None)
            assert found.claims["iss"] == "spiffe://example.org"
        bank = Issuer(
            name="https://bank.test/",
            audiences=AUDIENCE,
            types=["jwt"],
            keys=InlineKeys.parse(Signer("ES256", number=2).jwks()),
        )
        with self.users(source, issuers=(bank,)) as users:
            found = users.authenticate(self.svid(own, iss="https://bank.test/"), None)
            assert "signature" in found.reason

    def test_new_bundle(self, world, ca):
        """A key that is gone from the bundle ends what it has proven, known tokens included."""
        source, own, _ = world
        with self.users(source) as users:
            assert isinstance(users.authenticate(self.svid(own), None), User)
            token = self.svid(own)
            users.authenticate(token, None)
            source.replace(bundles=TrustBundleSet([ca.bundle]))
            assert isinstance(users.authenticate(token, None), TokenRefused)

    def test_same_keys_in_a_new_generation(self, world):
        """A new generation with the same keys keeps what is known."""
        source, own, _ = world
        token = self.svid(own)
        with self.users(source) as users:
            first = users.authenticate(token, None)
            bundles = [
                TrustBundle(
                    b.trust_domain, b.authorities, sequence=7, jwt_authorities=b.jwt_authorities
                )
                for b in source.snapshot.bundles.values()
            ]
            source.replace(bundles=TrustBundleSet(bundles))
            assert users.authenticate(token, None) is first

    def test_bundles_that_cannot_be_had(self, world):
        """A source that hands nothing out vouches for nobody."""
        source, own, _ = world
        trust = SourceSwitch(source)
        with self.users(trust) as users:
            assert isinstance(users.authenticate(self.svid(own), None), User)
            trust.is_closed = True
            assert isinstance(users.authenticate(self.svid(own), None), TokenRefused)
            assert users.issuers == ()
        with self.users(trust, trust_domains=(TrustDomain("example.org"),)) as users:
            assert isinstance(users.authenticate(self.svid(own), None), TokenRefused)

    def test_needs_a_source(self):
        """JWT-SVIDs without trust bundles are a mistake of the configuration."""
        with pytest.raises(ConfigurationError, match="source"):
            Users(UserSettings(jwt_svids=JwtSvids(audiences=AUDIENCE)))

    def test_issuers(self, world, keys):
        """The names of everybody who issues users, for rules that have to name one."""
        source, _, _ = world
        issuer = Issuer(name=ISSUER, audiences=AUDIENCE, keys=keys)
        assert self.users(source, issuers=(issuer,)).issuers == (ISSUER, "spiffe://example.org")

    def test_keys_for_certificates_are_none(self, ca):
        """Only entries for JWT-SVIDs are keys of JWT-SVIDs."""
        signer = Signer("ES256")
        document = json.dumps({"keys": [signer.jwk(use="x509-svid", x5c=None)]}).encode()
        assert KeySet.parse(document).keys == ()
