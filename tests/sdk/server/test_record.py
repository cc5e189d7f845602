# SPDX-License-Identifier: Apache-2.0
"""Requests in the metrics: counted by decision and rule, on each way through the middleware."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from kubetls_sdk import metrics
from kubetls_sdk.authz import PolicySet
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.connection import with_connection
from tests.sdk.server.scopes import Recorder, World, call, http_scope

POLICY = """
version: 1
policies:
  - name: orders
    allow:
      - {name: reads, from: {namespace: shop}, to: {methods: GET, paths: "/orders/{id}"}}
    deny:
      - {name: no-secrets, to: {paths: /orders/secret}}
  - name: next
    mode: shadow
    deny:
      - {name: no-forties, to: {paths: /orders/42}}
"""


@pytest.fixture
def world():
    return World()


@pytest.fixture
def middleware(world):
    policy = PolicySet.parse({"p": POLICY}, trust_domain=world.ca.trust_domain)
    return KubeTLSMiddleware(Recorder(), policy=policy)


@pytest.fixture
def counted():
    """The count of a decision and a rule."""
    registry = CollectorRegistry()
    metrics.enable(registry)

    def counted(decision, rule):
        labels = {"decision": decision, "rule": rule}
        return registry.get_sample_value(metrics.REQUESTS, labels)

    yield counted
    metrics.disable()


class TestRequests:
    @pytest.mark.parametrize(
        ("path", "decision", "rule"),
        [
            ("/orders/7", "allowed", "reads"),
            ("/orders/secret", "denied", "no-secrets"),
            ("/other", "denied", ""),
        ],
    )
    def test_by_rule(self, world, middleware, counted, path, decision, rule):
        """Each request counts once, under the rule that decided it."""
        for count in (1, 2, 3):
            call(middleware, http_scope(world.connection(), path=path))
            assert counted(decision, rule) == count

    def test_shadow(self, world, middleware, counted):
        """What a shadow policy would have denied is served, and counted under its rule too."""
        assert call(middleware, http_scope(world.connection()))[0]["status"] == 204
        assert counted("allowed", "reads") == 1
        assert counted("shadow-denied", "no-forties") == 1

    def test_each_request_of_a_connection(self, world, middleware, counted):
        """A request like the one before is counted as well."""
        connection = world.connection()
        connection.requests = list

        async def served(scope, receive, send):
            app = with_connection(middleware, {}, connection)
            for _ in range(3):
                await app({**http_scope(path="/orders/7")}, receive, send)

        call(served, {})
        assert counted("allowed", "reads") == 3
