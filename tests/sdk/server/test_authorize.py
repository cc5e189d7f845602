# SPDX-License-Identifier: Apache-2.0
"""The application's own questions: caller and user of the request, policy in force."""

from __future__ import annotations

import pytest

from kubetls_sdk import TrustDomain
from kubetls_sdk.authz import PolicySet
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.authorize import authorize
from kubetls_sdk.server.authorizer import AnyVerified
from kubetls_sdk.users import Issuer, Users, UserSettings
from tests.sdk.server.scopes import Recorder, World, call, http_scope
from tests.sdk.server.test_users import SIGNER, Keys, with_token
from tests.tokens import AUDIENCE, ISSUER

TOKEN = SIGNER.token()
RULES = """
version: 1
policies:
  - name: orders
    allow:
      - name: calls
        from: {namespace: shop}
        to: {methods: GET, paths: "/orders/{id}"}
      - name: owner-cancels
        from: {namespace: shop, serviceAccount: web}
        to: {actions: cancel, resources: order}
        when: resource.owner == user.sub
      - name: anybody-counts
        from: {namespace: shop}
        to: {actions: count, resources: order}
"""


def policies(text=RULES):
    return PolicySet.parse({"p.yaml": text}, trust_domain=TrustDomain("example.org"))


class Holder:
    def __init__(self):
        self.current = policies()


@pytest.fixture
def world():
    return World()


@pytest.fixture
def served(world):
    """Serve a request and return the scope that the application got."""

    def served(*, policy=None, token=TOKEN, svid=...):
        app = Recorder()
        issuer = Issuer(name=ISSUER, audiences=AUDIENCE, keys=Keys())
        with Users(UserSettings(issuers=(issuer,))) as users:
            middleware = KubeTLSMiddleware(app, policy=policy or policies(), users=users)
            call(middleware, with_token(http_scope(world.connection(svid)), token))
        return app.scopes[0]

    return served


class TestAuthorize:
    @pytest.mark.parametrize(("owner", "allowed"), [("alice", True), ("bob", False)])
    def test_own_resource(self, served, owner, allowed):
        """A rule compares the resource with the user of the request."""
        decision = authorize(served(), "cancel", "order", owner=owner)
        assert decision.allowed is allowed
        assert (decision.rule == "owner-cancels") is allowed

    def test_caller_counts(self, served, world):
        """The workload has to be allowed as well."""
        scope = served(svid=world.ca.issue("/ns/shop/sa/other"))
        assert not authorize(scope, "cancel", "order", owner="alice").allowed
        assert authorize(scope, "count", "order").allowed

    def test_request_object(self, served):
        """A framework's request is as good as its scope."""

        class Request:
            scope = served()

        assert authorize(Request(), "cancel", "order", owner="alice").allowed

    def test_nobody_says_so(self, served):
        """An action that no rule names is denied."""
        assert not authorize(served(), "delete", "order", owner="alice").allowed

    def test_policy_in_force(self, served):
        """A reloaded policy counts at once, during a request too."""
        holder = Holder()
        scope = served(policy=holder)
        holder.current = PolicySet.deny_all()
        assert not authorize(scope, "cancel", "order", owner="alice").allowed

    def test_without_users(self, world):
        """Where no users are authenticated, a rule about users does not match."""
        app = Recorder()
        call(KubeTLSMiddleware(app, policy=policies()), http_scope(world.connection()))
        assert not authorize(app.scopes[0], "cancel", "order", owner="alice").allowed
        assert authorize(app.scopes[0], "count", "order").allowed

    def test_no_policy_files(self, served):
        """An authorizer without rules cannot be asked."""
        with pytest.raises(ConfigurationError, match="policy files"):
            authorize(served(policy=AnyVerified()), "count", "order")

    def test_unseen(self):
        """A request that no middleware has seen is an error."""
        with pytest.raises(ConfigurationError, match="KubeTLSMiddleware"):
            authorize(http_scope(), "count", "order")
