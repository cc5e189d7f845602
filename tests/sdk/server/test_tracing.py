# SPDX-License-Identifier: Apache-2.0
"""Attributes of spans: who asked, for whom, and which rule decided."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, use_span

from kubetls_sdk.authz import PolicySet
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server import tracing
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.connection import with_connection
from kubetls_sdk.users import Issuer, Users, UserSettings
from tests.sdk.server.scopes import Recorder, World, call, http_scope
from tests.sdk.server.test_users import SIGNER, Keys, with_token
from tests.tokens import AUDIENCE, ISSUER

WEB = "spiffe://example.org/ns/shop/sa/web"
POLICY = """
version: 1
policies:
  - name: orders
    allow:
      - {name: reads, from: {namespace: shop}, to: {methods: GET, paths: "/orders/{id}"}}
"""


class Span(NonRecordingSpan):
    """A span that remembers."""

    def __init__(self, *, is_sampled=True):
        super().__init__(INVALID_SPAN_CONTEXT)
        self.attributes = {}
        self._is_sampled = is_sampled

    def is_recording(self):
        return self._is_sampled

    def set_attributes(self, attributes):
        self.attributes |= attributes


@pytest.fixture
def world():
    return World()


@pytest.fixture
def policy(world):
    return PolicySet.parse({"p": POLICY}, trust_domain=world.ca.trust_domain)


@pytest.fixture
def enabled():
    tracing.enable()
    yield
    tracing.disable()


def traced(app, scope, span=None):
    span = span or Span()
    with use_span(span):
        call(app, scope)
    return span.attributes


@pytest.mark.usefixtures("enabled")
class TestCurrentSpan:
    def test_allowed(self, world, policy):
        """The span of a request that is served says who asked and by which rule."""
        middleware = KubeTLSMiddleware(Recorder(), policy=policy)
        assert traced(middleware, http_scope(world.connection())) == {
            "kubetls.peer.id": WEB,
            "kubetls.decision": "allow",
            "kubetls.policy": "orders",
            "kubetls.rule": "reads",
        }

    def test_each_request_of_a_connection(self, world, policy):
        """A request like the one before is in the trace as well."""
        connection = world.connection()
        connection.requests = list
        app = with_connection(KubeTLSMiddleware(Recorder(), policy=policy), {}, connection)
        for _ in range(3):
            assert traced(app, http_scope())["kubetls.rule"] == "reads"

    @pytest.mark.parametrize(
        "values",
        [{"path": "/other"}, {"path": "//orders"}, {"method": "POST"}],
        ids=["no-rule", "not-canonical", "method"],
    )
    def test_denied(self, world, policy, values):
        """So does the span of one that is not."""
        middleware = KubeTLSMiddleware(Recorder(), policy=policy)
        found = traced(middleware, http_scope(world.connection(), **values))
        assert found == {"kubetls.peer.id": WEB, "kubetls.decision": "deny"}

    def test_nobody(self, world, policy):
        """A peer that is not trusted any more has no identity there."""
        connection = world.connection()
        world.distrust()
        found = traced(KubeTLSMiddleware(Recorder(), policy=policy), http_scope(connection))
        assert found == {"kubetls.decision": "deny"}

    def test_user(self, world, policy):
        """The end user is the pair of issuer and subject; no other claim is told."""
        issuer = Issuer(name=ISSUER, audiences=AUDIENCE, keys=Keys())
        with Users(UserSettings(issuers=(issuer,))) as users:
            middleware = KubeTLSMiddleware(Recorder(), policy=policy, users=users)
            found = traced(middleware, with_token(http_scope(world.connection()), SIGNER.token()))
        assert (found["enduser.id"], found["kubetls.enduser.issuer"]) == ("alice", ISSUER)
        assert set(found) == set(tracing.ATTRIBUTES)

    def test_not_sampled(self, world, policy):
        """A span that nobody records gets nothing."""
        middleware = KubeTLSMiddleware(Recorder(), policy=policy)
        span = Span(is_sampled=False)
        assert traced(middleware, http_scope(world.connection()), span) == {}

    def test_no_span(self, world, policy):
        """Without a span the request is served all the same."""
        sent = call(KubeTLSMiddleware(Recorder(), policy=policy), http_scope(world.connection()))
        assert sent[0]["status"] == 204


class TestHook:
    def test_admitted(self, world, policy):
        """An instrumentation inside the middleware gets the same, without `enable`."""
        app = Recorder()
        call(KubeTLSMiddleware(app, policy=policy), http_scope(world.connection()))
        span = Span()
        tracing.request_hook(span, app.scopes[0])
        assert span.attributes["kubetls.peer.id"] == WEB
        assert span.attributes["kubetls.rule"] == "reads"

    def test_unseen(self):
        """A scope that no middleware has seen changes nothing."""
        span = Span()
        tracing.request_hook(span, http_scope())
        assert span.attributes == {}


def test_documented():
    """The page has exactly these attributes."""
    page = (Path(__file__).parents[3] / "docs/reference/tracing.md").read_text()
    assert dict(re.findall(r"^\| `(\S+)` \| (.*) \|$", page, re.M)) == tracing.ATTRIBUTES


class TestOff:
    def test_nothing_is_set(self, world, policy):
        """Until it is enabled, spans are left alone."""
        middleware = KubeTLSMiddleware(Recorder(), policy=policy)
        assert traced(middleware, http_scope(world.connection())) == {}

    def test_nothing_is_imported(self):
        """The server's modules do not load opentelemetry."""
        script = (
            "import sys, kubetls_sdk.server.asgi, kubetls_sdk.server.tracing;"
            "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
        )
        subprocess.run([sys.executable, "-c", script], check=True, timeout=30)

    def test_not_installed(self, monkeypatch):
        """Then `enable` says what to install."""
        monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
        with pytest.raises(ConfigurationError, match="opentelemetry-api"):
            tracing.enable()
        assert not tracing.is_enabled()
