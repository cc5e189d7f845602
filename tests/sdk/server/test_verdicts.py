# SPDX-License-Identifier: Apache-2.0
"""What is remembered of a policy's decisions, and when it is forgotten."""

from __future__ import annotations

import pytest

from kubetls_sdk.authz import PolicySet
from kubetls_sdk.server import verdicts
from kubetls_sdk.server.authorizer import AnyVerified
from kubetls_sdk.server.verdicts import Verdicts
from tests.sdk.server.scopes import World, http_scope

POLICY = """
version: 1
policies:
  - name: orders
    allow:
      - name: web-reads
        from: {{namespace: shop, serviceAccount: web}}
        to: {{methods: GET, paths: "/orders/{{id}}"}}
        {when}
"""


@pytest.fixture(scope="module")
def world():
    return World()


def policy_set(world, when=""):
    text = POLICY.format(when=when)
    return PolicySet.parse({"p": text}, trust_domain=world.ca.trust_domain)


class Holder:
    def __init__(self, current):
        self.current = current


def remembers(judge, connection, path="/orders/42", method="GET"):
    return judge.allowed_before(connection, method, path, path.encode()) is not None


class TestRemembered:
    def test_allowed(self, world):
        """An allowed request is remembered for its caller, method and path alone."""
        judge, connection = Verdicts(policy_set(world)), world.connection()
        assert judge.decide(connection, "GET", http_scope(), 1).allowed
        assert remembers(judge, connection)
        assert remembers(judge, world.connection())
        assert not remembers(judge, world.connection(world.ca.issue("/ns/shop/sa/other")))
        assert not remembers(judge, world.connection(None))
        assert not remembers(judge, connection, method="POST")
        assert not remembers(judge, connection, path="/orders/43")
        assert judge.allowed_before(connection, "GET", "/orders/42", b"/orders/4%32") is None

    def test_denied(self, world):
        """A denied request is asked about again."""
        judge, connection = Verdicts(policy_set(world)), world.connection()
        assert not judge.decide(connection, "POST", http_scope(), 1).allowed
        assert not remembers(judge, connection, method="POST")

    def test_changed_policy(self, world):
        """A policy that changed forgets, also when the new one reads the same."""
        holder = Holder(policy_set(world))
        judge, connection = Verdicts(holder), world.connection()
        judge.decide(connection, "GET", http_scope(), 1)
        holder.current = policy_set(world)
        assert not remembers(judge, connection)
        holder.current = PolicySet.deny_all()
        assert not remembers(judge, connection)
        assert not judge.decide(connection, "GET", http_scope(), 1).allowed

    def test_conditions(self, world):
        """A decision that looked at the request's details is not remembered."""
        judge = Verdicts(policy_set(world, when="when: request.host == 'orders'"))
        connection = world.connection()
        assert judge.decide(connection, "GET", http_scope(), 1).allowed
        assert not remembers(judge, connection)
        other = http_scope(headers=[(b"host", b"other")])
        assert not judge.decide(connection, "GET", other, 1).allowed

    def test_other_authorizers(self, world):
        """Nothing is remembered of an authorizer that may look at anything."""
        judge, connection = Verdicts(AnyVerified()), world.connection()
        assert judge.decide(connection, "GET", http_scope(), 1).allowed
        assert not remembers(judge, connection)

    def test_bound(self, world, monkeypatch):
        """Paths without end do not fill the memory."""
        monkeypatch.setattr(verdicts, "REMEMBERED", 10)
        judge, connection = Verdicts(policy_set(world)), world.connection()
        for number in range(100):
            judge.decide(connection, "GET", http_scope(path=f"/orders/{number}"), 1)
        assert len(judge.remembered[1]) <= 10
        assert remembers(judge, connection, "/orders/99")

    def test_long_paths(self, world):
        """Thousands of the longest paths would be megabytes: they are decided each time."""
        judge, connection = Verdicts(policy_set(world)), world.connection()
        path = "/orders/" + "1" * 4000
        assert judge.decide(connection, "GET", http_scope(path=path), 1).allowed
        assert not remembers(judge, connection, path)


class TestMalformed:
    def test_reason(self, world):
        """What is not canonical has a reason instead of a decision, and is not remembered."""
        judge, connection = Verdicts(policy_set(world)), world.connection()
        assert isinstance(judge.decide(connection, "GET", http_scope(path="/a//b"), 1), str)
        assert "Host" in judge.decide(connection, "GET", http_scope(), 2)
        assert not remembers(judge, connection)
