# SPDX-License-Identifier: Apache-2.0
"""What single routes require: the decorator of Starlette, the dependency of FastAPI."""

from __future__ import annotations

import io
import json
import logging

import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket  # noqa: TC002 - FastAPI reads the annotation

from kubetls_sdk import audit, metrics
from kubetls_sdk.authz import PolicySet
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server import fastapi, refusal_log, starlette
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.users import Issuer, Users, UserSettings
from tests.sdk.server.scopes import World, call, http_scope, websocket_scope
from tests.sdk.server.test_users import SIGNER, Keys, with_token
from tests.tokens import AUDIENCE, ISSUER

POLICY = """
version: 1
policies:
  - name: orders
    allow:
      - name: calls
        from: {namespace: shop}
        to: {paths: "/**"}
        user: optional
      - name: opens
        from: {namespace: shop}
        to: {paths: "/**", websocket: true}
        user: optional
      - name: owner-cancels
        from: {namespace: shop, serviceAccount: web}
        to: {actions: cancel, resources: order}
        when: resource.owner == user.sub
      - name: anybody-counts
        from: {namespace: shop}
        to: {actions: count, resources: order}
"""


def owner(request):
    return {"owner": request.path_params["user"]}


async def owner_from_a_database(request):
    return owner(request)


async def answer(request):
    return PlainTextResponse("done")


def starlette_app(framework=starlette):
    class Endpoint(HTTPEndpoint):
        @framework.requires("cancel", "order", attributes=owner)
        async def get(self, request):
            return PlainTextResponse("done")

    @framework.requires("cancel", "order", attributes=owner)
    def blocking(request):
        return PlainTextResponse("done")

    @framework.requires("cancel", "order", attributes=owner)
    async def websocket(socket):
        await socket.accept()

    asynchronous = framework.requires("cancel", "order", attributes=owner)(answer)
    awaited = framework.requires("cancel", "order", attributes=owner_from_a_database)(answer)
    return Starlette(
        routes=[
            Route("/async/{user}", asynchronous),
            Route("/awaited/{user}", awaited),
            Route("/blocking/{user}", blocking),
            Route("/class/{user}", Endpoint),
            Route("/count", framework.requires("count", "order")(answer)),
            Route("/unknown", framework.requires("unknown", "order")(answer)),
            WebSocketRoute("/socket/{user}", websocket),
        ]
    )


def fastapi_app():
    app = FastAPI()

    def guarded(path, *requirement, **options):
        app.get(path, dependencies=[Depends(fastapi.requires(*requirement, **options))])(answered)

    def answered():
        return "done"

    for path in ("/async/{user}", "/blocking/{user}", "/class/{user}"):
        guarded(path, "cancel", "order", attributes=owner)
    guarded("/awaited/{user}", "cancel", "order", attributes=owner_from_a_database)
    guarded("/count", "count", "order")
    guarded("/unknown", "unknown", "order")

    requirement = Depends(fastapi.requires("cancel", "order", attributes=owner))

    @app.websocket("/socket/{user}", dependencies=[requirement])
    async def socket(websocket: WebSocket):
        await websocket.accept()

    return app


@pytest.fixture(autouse=True)
def fresh_quotas(monkeypatch):
    monkeypatch.setattr(refusal_log, "_quotas", {})


@pytest.fixture
def world():
    return World()


@pytest.fixture(params=[starlette_app, fastapi_app], ids=["starlette", "fastapi"])
def ask(request, world):
    """Ask an application behind the middleware; returns its messages."""
    issuer = Issuer(name=ISSUER, audiences=AUDIENCE, keys=Keys())
    policy = PolicySet.parse({"p": POLICY}, trust_domain=world.ca.trust_domain)
    with Users(UserSettings(issuers=(issuer,))) as users:
        middleware = KubeTLSMiddleware(request.param(), policy=policy, users=users)

        def ask(path, *, token=True, svid=..., scope=http_scope, **values):
            asked = scope(world.connection(svid), path=path, root_path="", **values)
            asked["headers"] = list(asked["headers"])
            if scope is http_scope:
                return call(
                    middleware,
                    with_token(asked, SIGNER.token()) if token else asked,
                    {"type": "http.request", "body": b"", "more_body": False},
                )
            return call(middleware, with_token(asked, SIGNER.token()) if token else asked)

        yield ask


def status(sent):
    return sent[0]["status"]


def problem(sent):
    headers = dict(sent[0]["headers"])
    assert headers[b"content-type"] == b"application/problem+json"
    return json.loads(b"".join(message["body"] for message in sent[1:])), headers


class TestDecision:
    @pytest.mark.parametrize("kind", ["async", "awaited", "blocking", "class"])
    def test_owner(self, ask, kind):
        """The user may do it to what is theirs."""
        assert status(ask(f"/{kind}/alice")) == 200

    @pytest.mark.parametrize("kind", ["async", "awaited", "blocking", "class"])
    def test_somebody_else(self, ask, kind):
        """To nothing else; the caller learns the status alone."""
        sent = ask(f"/{kind}/bob")
        assert status(sent) == 403
        body, _ = problem(sent)
        assert set(body.values()) <= {"about:blank", "Forbidden", 403}

    def test_another_workload(self, ask, world):
        """The workload counts as well."""
        other = world.ca.issue("/ns/shop/sa/other")
        assert status(ask("/async/alice", svid=other)) == 403
        assert status(ask("/count", svid=other)) == 200

    def test_without_user(self, ask):
        """For want of a user it is a 401, which says how to bring one."""
        sent = ask("/async/alice", token=False)
        assert status(sent) == 401
        _, headers = problem(sent)
        assert headers[b"www-authenticate"] == b"Bearer"
        assert status(ask("/count", token=False)) == 200

    def test_nobody_says_so(self, ask):
        """An action that no rule names is denied."""
        assert status(ask("/unknown")) == 403

    def test_not_asked_without_the_request(self, ask):
        """What the policy refuses at the door never comes so far."""
        assert status(ask("//async/alice")) == 400


class TestWebSocket:
    def test_allowed(self, ask):
        """The owner opens it."""
        assert ask("/socket/alice", scope=websocket_scope)[0]["type"] == "websocket.accept"

    def test_denied(self, ask):
        """It is closed before it is accepted."""
        sent = ask("/socket/bob", scope=websocket_scope)
        assert sent[-1]["type"] == "websocket.close"
        assert sent[-1]["code"] == 1008
        assert "websocket.accept" not in [message["type"] for message in sent]

    def test_denial_response(self, world):
        """Starlette answers with 403 where the server can send it."""
        policy = PolicySet.parse({"p": POLICY}, trust_domain=world.ca.trust_domain)
        scope = websocket_scope(world.connection(), path="/socket/bob", root_path="")
        scope["extensions"]["websocket.http.response"] = {}
        sent = call(KubeTLSMiddleware(starlette_app(), policy=policy), scope)
        assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 403)


class TestRecords:
    def test_audit(self, ask):
        """Each decision is a record of its own, with the five checks and without the resource."""
        written = io.StringIO()
        audit.enable(logging.StreamHandler(written))
        try:
            ask("/async/bob")
            ask("/async/alice")
        finally:
            audit.disable()
        lines = [json.loads(line) for line in written.getvalue().splitlines()]
        denied, allowed = [line for line in lines if line["event"] == "action"]
        assert (denied["decision"], allowed["decision"]) == ("deny", "allow")
        assert (denied["method"], denied["path"]) == ("cancel", "order")
        assert denied["checks"]["service_authorization"] == "passed"
        assert denied["checks"]["user_authorization"] == "failed"
        assert allowed["checks"]["user_authorization"] == "passed"
        assert allowed["rule"] == "owner-cancels"
        assert "bob" not in str(denied)

    def test_log(self, ask, caplog):
        """A refusal is in the log, with its reason."""
        ask("/async/bob")
        assert "action 'cancel' on 'order'" in caplog.text

    def test_metrics(self, ask):
        """Counted by rule, apart from requests."""
        from prometheus_client import CollectorRegistry

        registry = CollectorRegistry()
        metrics.enable(registry)
        try:
            ask("/async/alice")
        finally:
            labels = {"decision": "action-allowed", "rule": "owner-cancels"}
            found = registry.get_sample_value(metrics.REQUESTS, labels)
            metrics.disable()
        assert found == 1


class TestMistakes:
    def test_without_middleware(self):
        """A route that requires something is never served without the middleware."""
        request = {"type": "http.request", "body": b"", "more_body": False}
        with pytest.raises(ConfigurationError, match="KubeTLSMiddleware"):
            call(starlette_app(), http_scope(path="/count", root_path=""), request)

    def test_await_without_a_coroutine(self):
        """Attributes that have to be awaited do not go with a blocking endpoint."""
        with pytest.raises(ConfigurationError, match="await"):
            starlette.requires("a", "b", attributes=owner_from_a_database)(lambda request: None)
