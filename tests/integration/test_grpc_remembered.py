# SPDX-License-Identifier: Apache-2.0
"""Decisions on gRPC calls that are made once for equal calls, and when they are not."""

from __future__ import annotations

import grpc
import pytest
from prometheus_client import CollectorRegistry

from kubetls_sdk import TrustDomain, metrics
from kubetls_sdk.authz import PolicySet
from tests.integration.grpc_world import KINDS, World, code_of, invoke, path, serve

DENIED = (grpc.StatusCode.PERMISSION_DENIED, "permission denied")
RULES = """
version: 1
policies:
  - name: orders
    allow:
      - name: web
        from: {namespace: shop, serviceAccount: web}
        to: {grpc: "shop.Orders/*"}
"""
BY_HEADER = RULES + "        when: header.x-tenant == 'blue'\n"


def policies(text=RULES):
    return PolicySet.parse({"p": text}, trust_domain=TrustDomain("example.org"))


class Holder:
    def __init__(self, text=RULES):
        self.current = policies(text)


class Counting:
    """An authorizer that is not policy files: nothing of it is remembered."""

    def __init__(self, inner):
        self.inner = inner
        self.asked = 0

    def decide(self, *args):
        self.asked += 1
        return self.inner.decide(*args)


@pytest.fixture
def world():
    return World()


@pytest.mark.parametrize("kind", KINDS)
class TestRemembered:
    def test_changed_policy(self, world, kind):
        """What was allowed before is decided anew by another policy, at once."""
        holder = Holder()
        with serve(world, kind, policy=holder) as serving:
            channel = serving.channel()
            for _ in range(3):
                assert invoke(channel, "unary_unary", b"a")
                holder.current = policies(RULES.replace("web}", "other}"))
                assert code_of(channel, "unary_unary", b"a") == DENIED
                holder.current = policies()

    def test_another_caller(self, world, kind):
        """It is allowed to the same peer only, and for the same method."""
        rules = RULES.replace("shop.Orders/*", "shop.Orders/unary_unary")
        with serve(world, kind, policy=policies(rules)) as serving:
            channel = serving.channel()
            assert invoke(channel, "unary_unary", b"a")
            assert code_of(channel, "unary_stream", b"a") == DENIED
            other = serving.channel(world.ca.issue("/ns/shop/sa/other"))
            assert code_of(other, "unary_unary", b"a") == DENIED
            assert invoke(channel, "unary_unary", b"a")

    def test_conditions(self, world, kind):
        """What depends on more than caller and method is decided for each call."""
        with serve(world, kind, policy=policies(BY_HEADER)) as serving:
            channel = serving.channel()
            for _ in range(2):
                blue = [("x-tenant", "blue")]
                assert invoke(channel, "unary_unary", b"a", metadata=blue)
                assert code_of(channel, "unary_unary", b"a") == DENIED

    def test_other_authorizer(self, world, kind):
        """An authorizer of the application is asked for each call."""
        counting = Counting(policies())
        with serve(world, kind, policy=counting) as serving:
            channel = serving.channel()
            for _ in range(3):
                assert invoke(channel, "unary_unary", b"a")
        assert counting.asked == 3

    def test_metrics(self, world, kind):
        """Calls are counted one by one, also when counting begins later."""
        with serve(world, kind, policy=policies()) as serving:
            channel = serving.channel()
            invoke(channel, "unary_unary", b"a")
            registry = CollectorRegistry()
            metrics.enable(registry)
            try:
                for _ in range(3):
                    invoke(channel, "unary_unary", b"a")
                labels = {"decision": "allowed", "rule": "web"}
                assert registry.get_sample_value(metrics.REQUESTS, labels) == 3
            finally:
                metrics.disable()

    def test_removed_root(self, world, kind):
        """A peer whose root was removed is refused, whatever it was allowed before."""
        with serve(world, kind, policy=policies()) as serving:
            channel = serving.channel()
            assert invoke(channel, "unary_unary", b"a", method=path("unary_unary"))
            world.distrust()
            code, _ = code_of(channel, "unary_unary", b"a")
            assert code is grpc.StatusCode.UNAUTHENTICATED
