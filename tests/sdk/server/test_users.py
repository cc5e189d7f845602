# SPDX-License-Identifier: Apache-2.0
"""End users in the middleware, by hand: who gets in, what is told, and when it ends."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from concurrent.futures import Future

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from prometheus_client import CollectorRegistry

from kubetls_sdk import TrustBundleSet, TrustDomain, metrics
from kubetls_sdk.authz import PolicySet
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.authorizer import AnyVerified
from kubetls_sdk.server.end_user import end_user
from kubetls_sdk.server.forwarded import ForwardedFrom
from kubetls_sdk.server.refusal import POLICY_VIOLATION
from kubetls_sdk.users import Issuer, KeySet, Users, UserSettings
from tests.sdk.server.forwarding import client_cert
from tests.sdk.server.scopes import Recorder, World, call, http_scope, websocket_scope
from tests.tokens import AUDIENCE, ISSUER, Signer, base64url

SIGNER = Signer("ES256")
POLICY = PolicySet.parse(
    {
        "policy.yaml": """
version: 1
policies:
  - name: orders
    allow:
      - name: owner-reads
        from: {namespace: shop}
        to: {methods: GET, paths: "/users/{user}"}
        when: path.user == user.sub
      - name: web-reads
        from: {namespace: shop}
        to: {methods: GET, paths: "/orders/{id}"}
      - name: anybody-lists
        from: {namespace: shop}
        to: {methods: GET, paths: /public}
        user: optional
      - name: web-listens
        from: {namespace: shop}
        to: {websocket: true, paths: /live}
"""
    },
    trust_domain=TrustDomain("example.org"),
)


class Keys:
    """Keys at hand, or on their way."""

    def __init__(self):
        self.keys = KeySet.parse(SIGNER.jwks().encode())
        self.flying = None

    def open(self):
        return self

    def usable(self):
        return None if self.flying is not None and not self.flying.done() else self.keys

    def flight(self, kid):
        del kid
        return self.flying if self.flying is not None and not self.flying.done() else None

    def last(self):
        return self.keys

    def close(self):
        """Nothing."""


@pytest.fixture
def world():
    return World()


@pytest.fixture
def app():
    return Recorder()


@pytest.fixture
def keys():
    return Keys()


@pytest.fixture
def users(keys):
    issuer = Issuer(name=ISSUER, audiences=AUDIENCE, keys=keys, leeway_seconds=0)
    with Users(UserSettings(issuers=(issuer,))) as opened:
        yield opened


def with_token(scope, *tokens):
    scope["headers"] += [(b"authorization", b"Bearer " + token) for token in tokens]
    return scope


def answer_of(sent):
    start, body = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], headers, json.loads(body["body"] or b"null")


class TestRequest:
    def test_user(self, world, app, users):
        """The application finds the user in scope and state."""
        middleware = KubeTLSMiddleware(app, policy=POLICY, users=users)
        scope = with_token(http_scope(world.connection()), SIGNER.token())
        assert call(middleware, scope)[0]["status"] == 204
        (seen,) = app.scopes
        assert end_user(seen) is seen["state"]["user"]
        assert (end_user(seen).issuer, end_user(seen).subject) == (ISSUER, "alice")

    def test_claims_in_the_policy(self, world, app, users):
        """A rule compares path and claims: the own resource is allowed, another one is not."""
        middleware = KubeTLSMiddleware(app, policy=POLICY, users=users)
        for path, status in (("/users/alice", 204), ("/users/bob", 403)):
            scope = with_token(http_scope(world.connection(), path=path), SIGNER.token())
            assert call(middleware, scope)[0]["status"] == status

    @pytest.mark.parametrize("path", ["/orders/42", "/users/alice"])
    def test_no_token(self, world, app, users, path):
        """Without a token the answer is 401 with a challenge, whether or not the rule asks."""
        middleware = KubeTLSMiddleware(app, policy=POLICY, users=users)
        sent = call(middleware, http_scope(world.connection(), path=path))
        status, headers, body = answer_of(sent)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert body == {"type": "about:blank", "title": "Unauthorized", "status": 401}
        assert "connection" not in headers
        assert app.scopes == []

    def test_user_optional(self, world, app, users):
        """A rule that says so lets requests without a token in; the user is None."""
        middleware = KubeTLSMiddleware(app, policy=POLICY, users=users)
        assert call(middleware, http_scope(world.connection(), path="/public"))[0]["status"] == 204
        assert end_user(app.scopes[0]) is None

    def test_invalid_token_where_none_is_needed(self, world, app, users):
        """A token that proves nothing is refused, whatever the rule says of having none."""
        middleware = KubeTLSMiddleware(app, policy=POLICY, users=users)
        scope = with_token(http_scope(world.connection(), path="/public"), SIGNER.token(exp=1))
        status, headers, _ = answer_of(call(middleware, scope))
        assert (status, headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')

    def test_nobody_may_do_it(self, world, app, users):
        """What no rule allows is a 403 with and without a user."""
        middleware = KubeTLSMiddleware(app, policy=POLICY, users=users)
        for tokens in ((), (SIGNER.token(),)):
            scope = with_token(http_scope(world.connection(), path="/admin"), *tokens)
            assert call(middleware, scope)[0]["status"] == 403

    def test_two_tokens(self, world, app, users):
        """Two fields with tokens are refused."""
        middleware = KubeTLSMiddleware(app, policy=POLICY, users=users)
        scope = with_token(http_scope(world.connection()), SIGNER.token(), SIGNER.token())
        assert call(middleware, scope)[0]["status"] == 401

    def test_remembered_decision(self, world, app, users):
        """A decision that was remembered for a user opens nothing to those without."""
        middleware = KubeTLSMiddleware(app, policy=POLICY, users=users)
        connection = world.connection()
        for _ in range(3):
            scope = with_token(http_scope(connection), SIGNER.token())
            assert call(middleware, scope)[0]["status"] == 204
        assert call(middleware, http_scope(connection))[0]["status"] == 401

    def test_any_verified(self, world, app, users):
        """An authorizer that knows no users leaves the demand for one in force."""
        middleware = KubeTLSMiddleware(app, policy=AnyVerified(), users=users)
        assert call(middleware, http_scope(world.connection()))[0]["status"] == 401
        scope = with_token(http_scope(world.connection()), SIGNER.token())
        assert call(middleware, scope)[0]["status"] == 204

    def test_untrusted_peer_with_a_token(self, world, app, users):
        """A good token does not replace a good certificate."""
        middleware = KubeTLSMiddleware(app, policy=POLICY, users=users)
        connection = world.connection()
        world.distrust()
        sent = call(middleware, with_token(http_scope(connection), SIGNER.token()))
        status, headers, _ = answer_of(sent)
        assert (status, headers["www-authenticate"]) == (401, "MutualTLS")

    def test_bound_token(self, world, app, users):
        """A token that is bound to the peer's certificate works there and nowhere else."""
        middleware = KubeTLSMiddleware(app, policy=POLICY, users=users)
        leaf = world.svid.chain[0]
        token = SIGNER.token(cnf={"x5t#S256": base64url(leaf.fingerprint(SHA256())).decode()})
        scope = with_token(http_scope(world.connection()), token)
        assert call(middleware, scope)[0]["status"] == 204
        thief = world.connection(world.ca.issue("/ns/shop/sa/thief"))
        assert call(middleware, with_token(http_scope(thief), token))[0]["status"] == 401

    def test_log(self, world, app, users, caplog):
        """The log tells the reason and the peer; the caller is told neither, the log no token."""
        caplog.set_level(logging.DEBUG)
        middleware = KubeTLSMiddleware(app, policy=POLICY, users=users)
        token = SIGNER.token(aud="https://other.test")
        sent = call(middleware, with_token(http_scope(world.connection()), token))
        assert "expected one of the audiences" in caplog.text
        assert "spiffe://example.org/ns/shop/sa/web" in caplog.text
        assert "audience" not in repr(sent)
        assert not [each for each in token.decode().split(".") if each in caplog.text]

    def test_without_users(self, world, app):
        """Without users a token means nothing, and asking for the user is an error."""
        scope = with_token(http_scope(world.connection()), b"rubbish")
        assert call(KubeTLSMiddleware(app, policy=POLICY), scope)[0]["status"] == 204
        with pytest.raises(ConfigurationError, match="users"):
            end_user(app.scopes[0])

    def test_a_client_cannot_bring_its_own_user(self, world, app, users):
        """What a scope holds before is replaced."""
        middleware = KubeTLSMiddleware(app, policy=POLICY, users=users)
        scope = http_scope(world.connection(), path="/public") | {"kubetls.user": "root"}
        call(middleware, scope)
        assert end_user(app.scopes[0]) is None


class TestMetrics:
    def test_results(self, world, app, users):
        """Each request counts as accepted, refused or absent; a token is no label."""
        registry = CollectorRegistry()
        metrics.enable(registry)
        try:
            middleware = KubeTLSMiddleware(app, policy=POLICY, users=users)
            for tokens in ((SIGNER.token(),), (SIGNER.token(exp=1),), (), ()):
                call(middleware, with_token(http_scope(world.connection()), *tokens))
            counts = [
                registry.get_sample_value(metrics.USER_TOKENS, {"result": result})
                for result in ("accepted", "refused", "absent")
            ]
        finally:
            metrics.disable()
        assert counts == [1, 1, 2]


class TestKeysOnTheirWay:
    def serve(self, middleware, keys, scope, meanwhile=lambda: None):
        keys.flying = Future()
        sent = []

        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            sent.append(message)

        async def run():
            serving = asyncio.ensure_future(middleware(scope, receive, send))
            for _ in range(5):
                await asyncio.sleep(0)
            assert not serving.done()
            meanwhile()
            keys.flying.set_result(None)
            await serving

        asyncio.run(run())
        return sent

    @pytest.mark.parametrize("make", [http_scope, websocket_scope])
    def test_forwarded_client_that_lost_its_root(self, world, app, users, keys, make):
        """While a request waited, its forwarded client's root was removed: it is refused."""
        forwarded = ForwardedFrom(proxies=["spiffe://example.org/ns/shop/sa/web"])
        policy = AnyVerified()
        middleware = KubeTLSMiddleware(app, policy=policy, users=users, forwarded=forwarded)
        scope = with_token(make(world.connection()), SIGNER.token())
        scope["headers"] += client_cert(world.partner.issue("/app").chain)

        def meanwhile():
            world.source.replace(bundles=TrustBundleSet([world.ca.bundle]))

        sent = self.serve(middleware, keys, scope, meanwhile)
        assert sent[0].get("status", 401) == 401
        assert app.scopes == []

    def test_waits(self, world, app, users, keys):
        """A request waits for the keys of its token, and is judged then."""
        middleware = KubeTLSMiddleware(app, policy=POLICY, users=users)
        scope = with_token(http_scope(world.connection()), SIGNER.token())
        assert self.serve(middleware, keys, scope)[0]["status"] == 204

    def test_peer_refused_meanwhile(self, world, app, users, keys):
        """A peer whose root was removed during the wait is refused."""
        middleware = KubeTLSMiddleware(app, policy=POLICY, users=users)
        scope = with_token(http_scope(world.connection()), SIGNER.token())
        assert self.serve(middleware, keys, scope, world.distrust)[0]["status"] == 401
        assert app.scopes == []


class TestWebSocket:
    @pytest.mark.parametrize("tokens", [(), (SIGNER.token(exp=1),)], ids=["none", "expired"])
    @pytest.mark.parametrize("has_response", [False, True])
    def test_refused(self, world, app, users, tokens, has_response):
        """Without a user the handshake is refused, before it is accepted."""
        middleware = KubeTLSMiddleware(app, policy=POLICY, users=users)
        scope = with_token(websocket_scope(world.connection(), path="/live"), *tokens)
        if has_response:
            scope["extensions"]["websocket.http.response"] = {}
        sent = call(middleware, scope)
        if has_response:
            assert sent[0]["status"] == 401
        else:
            assert sent == [{"type": "websocket.close", "code": POLICY_VIOLATION}]
        assert app.scopes == []

    def test_ends_with_the_token(self, world, users):
        """An open WebSocket is closed when the token of its user expires."""
        connection = world.connection()
        sent, closed = [], asyncio.Event()

        async def app(scope, receive, send):
            await send({"type": "websocket.accept"})
            await closed.wait()
            with pytest.raises(OSError, match="closed"):
                await send({"type": "websocket.send", "text": "too late"})

        async def send(message):
            sent.append(message)
            if message["type"] == "websocket.close":
                closed.set()

        middleware = KubeTLSMiddleware(app, policy=POLICY, users=users)
        token = SIGNER.token(exp=int(time.time()) + 1)
        scope = with_token(websocket_scope(connection, path="/live"), token)
        asyncio.run(asyncio.wait_for(middleware(scope, None, send), 5))
        assert sent[-1] == {"type": "websocket.close", "code": POLICY_VIOLATION}
        assert connection.websockets == set()

    def test_no_timer_stays(self, world, users):
        """A WebSocket that ends by itself leaves nothing behind."""
        left = []

        async def app(scope, receive, send):
            await send({"type": "websocket.accept"})

        async def run():
            middleware = KubeTLSMiddleware(app, policy=POLICY, users=users)
            scope = with_token(websocket_scope(world.connection(), path="/live"), SIGNER.token())
            loop = asyncio.get_running_loop()
            await middleware(scope, None, _ignore)
            left.extend(each for each in loop._scheduled if not each.cancelled())

        asyncio.run(run())
        assert left == []


class TestStream:
    def test_ends_with_the_token(self, world, users, caplog):
        """An answer that is under way when the token expires ends after the grace."""
        ended = []

        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(time.time())

        middleware = KubeTLSMiddleware(app, policy=POLICY, users=users, user_grace=0.1)
        exp = int(time.time()) + 1
        scope = with_token(http_scope(world.connection()), SIGNER.token(exp=exp))
        asyncio.run(asyncio.wait_for(middleware(scope, None, _ignore), 5))
        assert exp <= ended[0] < exp + 2
        assert "token expired" in caplog.text

    def test_own_timeout(self, world, users):
        """A timeout of the application is its own."""

        async def app(scope, receive, send):
            raise TimeoutError("of the application")

        middleware = KubeTLSMiddleware(app, policy=POLICY, users=users)
        scope = with_token(http_scope(world.connection()), SIGNER.token())
        with pytest.raises(TimeoutError, match="of the application"):
            asyncio.run(middleware(scope, None, _ignore))


async def _ignore(message):
    """Send to nobody."""
