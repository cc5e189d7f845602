# SPDX-License-Identifier: Apache-2.0
"""The middleware, by hand."""

from __future__ import annotations

import asyncio
import json

import pytest

from kubetls_sdk.authz import WEBSOCKET, Decision, Kind, PolicySet
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.authorizer import AnyCaller, AnyVerified
from kubetls_sdk.server.caller import ANONYMOUS, caller
from kubetls_sdk.server.connection import EXTENSION
from kubetls_sdk.server.refusal import POLICY_VIOLATION
from tests.sdk.server.scopes import Recorder, World, call, http_scope, websocket_scope

POLICY = """
version: 1
policies:
  - name: orders
    allow:
      - name: web-reads
        from: {namespace: shop, serviceAccount: web}
        to: {methods: GET, paths: "/orders/{id}"}
"""


@pytest.fixture
def world():
    return World()


@pytest.fixture
def app():
    return Recorder()


def status(sent):
    return sent[0]["status"]


class Spy:
    """A policy that allows, and remembers what it was asked."""

    def __init__(self, *, allowed=True):
        self.asked = []
        self.decision = Decision(allowed, Kind.ALLOWED if allowed else Kind.DENIED, "because")

    def decide(self, caller, method, path, details, /):
        self.asked.append((caller, method, path, details))
        return self.decision


class TestAllowed:
    def test_caller_in_the_scope(self, world, app):
        """The application is called, and finds the caller in scope and state."""
        connection = world.connection()
        middleware = KubeTLSMiddleware(app, policy=AnyVerified())
        assert status(call(middleware, http_scope(connection))) == 204
        (scope,) = app.scopes
        assert caller(scope) is scope["state"]["caller"] is connection.caller

    def test_scope_without_state(self, world, app):
        """A server that has no state for the application is fine."""
        scope = http_scope(world.connection())
        del scope["state"]
        call(KubeTLSMiddleware(app, policy=AnyVerified()), scope)
        assert caller(app.scopes[0]).namespace == "shop"

    def test_what_the_policy_sees(self, world, app):
        """The policy gets identity, method, the application's path, and details on demand."""
        policy = Spy()
        scope = http_scope(world.connection(), path="/api/x", root_path="/api")
        scope["headers"].append((b"x-spiffe-id", b"spiffe://example.org/admin"))
        call(KubeTLSMiddleware(app, policy=policy), scope)
        ((spiffe_id, method, path, details),) = policy.asked
        assert (str(spiffe_id), method, path) == (
            "spiffe://example.org/ns/shop/sa/web", "GET", "/api/x",
        )  # fmt: skip
        assert (details.host, details.port, details.source) == ("orders", 8443, "10.0.0.7")
        assert details.headers == [(b"host", b"orders")]
        assert details.user is details.resource is None
        assert details.now.tzinfo is not None

    def test_policy_holder(self, world, app):
        """A holder is asked for its current policy at each request."""

        class Holder:
            current = Spy()

        middleware = KubeTLSMiddleware(app, policy=Holder())
        assert status(call(middleware, http_scope(world.connection()))) == 204
        Holder.current = Spy(allowed=False)
        assert status(call(middleware, http_scope(world.connection()))) == 403

    def test_lifespan(self, app):
        """Lifespan events pass."""
        call(KubeTLSMiddleware(app, policy=AnyVerified()), {"type": "lifespan"})
        assert app.scopes == [{"type": "lifespan"}]


class TestRefused:
    def test_denied(self, world, app, caplog):
        """403 tells the caller nothing; the log tells everything."""
        policy = PolicySet.parse({"policy.yaml": POLICY}, trust_domain=world.ca.trust_domain)
        middleware = KubeTLSMiddleware(app, policy=policy)
        assert status(call(middleware, http_scope(world.connection()))) == 204
        sent = call(middleware, http_scope(world.connection(), method="DELETE"))
        assert status(sent) == 403
        assert dict(sent[0]["headers"])[b"content-type"] == b"application/problem+json"
        assert json.loads(sent[1]["body"]) == {
            "type": "about:blank", "title": "Forbidden", "status": 403,
        }  # fmt: skip
        assert "10.0.0.7:4711 (spiffe://example.org/ns/shop/sa/web) 'DELETE' '/orders/42'" in (
            caplog.text
        )
        assert "no-rule-for-operation" in caplog.text
        assert len(app.scopes) == 1

    @pytest.mark.parametrize("kind", ["http.unknown", "grpc", ""])
    def test_other_scopes(self, world, app, kind):
        """A kind of scope that nobody knows never reaches the application."""
        with pytest.raises(ConfigurationError):
            call(KubeTLSMiddleware(app, policy=AnyVerified()), {"type": kind})
        assert app.scopes == []

    def test_removed_root(self, world, app):
        """401, `Connection: close`, and the connection ends."""
        connection, ended = world.connection(), []
        connection.end = ended.append
        middleware = KubeTLSMiddleware(app, policy=AnyVerified())
        assert status(call(middleware, http_scope(connection))) == 204
        world.distrust()
        sent = call(middleware, http_scope(connection))
        assert status(sent) == 401
        assert dict(sent[0]["headers"])[b"connection"] == b"close"
        assert ended == [False]
        assert len(app.scopes) == 1

    def test_remembered_decisions_end_with_the_trust(self, world, app):
        """That a request was allowed before counts for nothing once its root is gone."""
        policy = PolicySet.parse({"policy.yaml": POLICY}, trust_domain=world.ca.trust_domain)
        middleware, connection = KubeTLSMiddleware(app, policy=policy), world.connection()
        assert [status(call(middleware, http_scope(connection))) for _ in range(3)] == [204] * 3
        world.distrust()
        assert status(call(middleware, http_scope(connection))) == 401

    @pytest.mark.parametrize(
        "values",
        [
            {"path": "/orders//42"},
            {"path": "/orders/../admin"},
            {"raw_path": b"/admin"},
            {"raw_path": None},
            {"method": "get"},
            {"method": WEBSOCKET},
            {"headers": [(b"host", b"a"), (b"host", b"b")]},
            {"headers": [(b"host", b"a"), (b"host", b"b"), (b"x-spiffe-id", b"x")]},
        ],
        ids=repr,
    )
    def test_not_canonical(self, world, app, values):
        """What two parsers could read differently gets 400, whatever the policy says."""
        policy = Spy()
        sent = call(KubeTLSMiddleware(app, policy=policy), http_scope(world.connection(), **values))
        assert status(sent) == 400
        assert app.scopes == policy.asked == []

    def test_a_log_line_cannot_be_faked(self, world, app, caplog):
        """A path with line breaks stays one line."""
        scope = http_scope(world.connection(), path="/a\nWARNING refused nobody")
        call(KubeTLSMiddleware(app, policy=AnyVerified()), scope)
        assert len(caplog.text.splitlines()) == 1


class TestAnonymous:
    def test_required(self, world, app):
        """An anonymous caller is refused unless optional, whatever the policy says."""
        sent = call(KubeTLSMiddleware(app, policy=AnyCaller()), http_scope(world.connection(None)))
        assert status(sent) == 401
        assert app.scopes == []

    def test_policy_sees_none(self, world, app):
        """In optional mode the policy is asked about nobody."""
        policy = Spy()
        middleware = KubeTLSMiddleware(app, policy=policy, optional=True)
        assert status(call(middleware, http_scope(world.connection(None)))) == 204
        assert policy.asked[0][0] is None
        assert caller(app.scopes[0]) is ANONYMOUS

    def test_any_verified(self, world, app):
        """Leaving all to the application does not let anonymous callers in."""
        middleware = KubeTLSMiddleware(app, policy=AnyVerified(), optional=True)
        assert status(call(middleware, http_scope(world.connection(None)))) == 403

    @pytest.mark.parametrize(
        ("expected", "values"),
        [
            (204, {"path": "/health"}),
            (204, {"path": "/health", "method": "HEAD"}),
            (403, {"path": "/health", "method": "POST"}),
            (403, {"path": "/health/"}),
            (403, {"path": "/healthy"}),
            (400, {"path": "/health", "raw_path": b"/%2fhealth"}),
            (400, {"path": "//health"}),
        ],
        ids=repr,
    )
    def test_anonymous_paths(self, world, app, expected, values):
        """Exactly the named paths, by GET and HEAD."""
        middleware = KubeTLSMiddleware(
            app, policy=AnyVerified(), optional=True, anonymous_paths=["/health"]
        )
        assert status(call(middleware, http_scope(world.connection(None), **values))) == expected

    def test_websocket_on_an_anonymous_path(self, world, app):
        """An anonymous path opens no WebSocket."""
        middleware = KubeTLSMiddleware(
            app, policy=AnyVerified(), optional=True, anonymous_paths=["/health"]
        )
        sent = call(middleware, websocket_scope(world.connection(None), path="/health"))
        assert sent == [{"type": "websocket.close", "code": POLICY_VIOLATION}]

    @pytest.mark.parametrize(
        "options",
        [
            {"anonymous_paths": ["/health"]},
            {"optional": True, "anonymous_paths": ["health"]},
            {"optional": True, "anonymous_paths": ["/a//b"]},
            {"optional": True, "anonymous_paths": [""]},
        ],
        ids=repr,
    )
    def test_contradictions(self, app, options):
        """Anonymous paths need optional certificates, and are exact paths."""
        with pytest.raises(ConfigurationError):
            KubeTLSMiddleware(app, policy=AnyVerified(), **options)


class TestWebSocket:
    def test_method(self, world, app):
        """The policy sees a method that no request line can spell."""
        policy = Spy()
        call(KubeTLSMiddleware(app, policy=policy), websocket_scope(world.connection()))
        assert policy.asked[0][1] == WEBSOCKET

    @pytest.mark.parametrize("has_response", [True, False])
    def test_denied(self, world, app, has_response):
        """A refused handshake gets 403 where the server can send it, else a close."""
        scope = websocket_scope(world.connection())
        if has_response:
            scope["extensions"]["websocket.http.response"] = {}
        sent = call(KubeTLSMiddleware(app, policy=Spy(allowed=False)), scope)
        if has_response:
            assert (sent[0]["type"], status(sent)) == ("websocket.http.response.start", 403)
        else:
            assert sent == [{"type": "websocket.close", "code": POLICY_VIOLATION}]
        assert app.scopes == []

    def test_ended(self, world):
        """Once ended it is closed with 1008, and the application's next send fails."""
        connection, outcomes = world.connection(), []

        async def app(scope, receive, send):
            await send({"type": "websocket.accept"})
            (end,) = connection.websockets
            end("expired")
            end("expired")
            with pytest.raises(OSError, match="not trusted"):
                await send({"type": "websocket.send", "text": "secret"})
            await asyncio.sleep(0)
            outcomes.append("done")

        sent = call(KubeTLSMiddleware(app, policy=AnyVerified()), websocket_scope(connection))
        assert sent == [
            {"type": "websocket.accept"},
            {"type": "websocket.close", "code": POLICY_VIOLATION},
        ]
        assert outcomes == ["done"]
        assert connection.websockets == set()

    def test_forgotten(self, world):
        """A WebSocket whose application fails leaves nothing behind."""
        connection = world.connection()

        async def app(scope, receive, send):
            raise RuntimeError("bug")

        with pytest.raises(RuntimeError):
            call(KubeTLSMiddleware(app, policy=AnyVerified()), websocket_scope(connection))
        assert connection.websockets == set()


class TestPolicyArgument:
    @pytest.mark.parametrize("policy", [None, "policy.yaml", 1, True], ids=repr)
    def test_not_a_policy(self, app, policy):
        """What does not decide is refused at once."""
        with pytest.raises(ConfigurationError, match=r"such as PolicyFile\("):
            KubeTLSMiddleware(app, policy=policy)

    def test_mandatory(self, app):
        """There is no default."""
        with pytest.raises(TypeError):
            KubeTLSMiddleware(app)

    def test_a_client_cannot_bring_its_own_connection(self, app):
        """Only an object of ours counts as a connection; a look-alike does not."""

        class Impostor:
            spiffe_id = "spiffe://example.org/admin"

            def refusal(self, now):
                return None

        scope = http_scope()
        scope["extensions"] = {EXTENSION: Impostor()}
        assert status(call(KubeTLSMiddleware(app, policy=AnyCaller()), scope)) == 500
        assert app.scopes == []
