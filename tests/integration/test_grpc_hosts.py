# SPDX-License-Identifier: Apache-2.0
"""Rules with hosts and ports on gRPC calls: what gRPC does not tell never opens anything."""

from __future__ import annotations

import contextlib

import grpc
import pytest

from kubetls_sdk import TrustDomain
from kubetls_sdk.authz import PolicySet
from tests.integration.grpc_world import KINDS, World, path, serve

DENIED = (grpc.StatusCode.PERMISSION_DENIED, "permission denied")
UNARY = path("unary_unary").removeprefix("/")


@pytest.fixture
def world():
    made = World()
    names = ("localhost", "orders.shop.svc", "admin.shop.svc", "xorders.shop.svc")
    made.source.replace(svid=made.ca.issue("/ns/shop/sa/orders", dns_names=names))
    return made


def policies(allow="", deny=None):
    text = (
        "version: 1\npolicies:\n- name: p\n  allow:\n  - name: a\n    from: {namespace: shop}\n"
        f"    to: {{grpc: '{UNARY}'{allow}}}\n"
    )
    if deny is not None:
        text += f"  deny:\n  - name: d\n    to: {{{deny}}}\n"
    return PolicySet.parse({"p": text}, trust_domain=TrustDomain("example.org"))


class Holder:
    def __init__(self):
        self.current = policies()


@contextlib.contextmanager
def deciding(world, kind, *, add=None):
    """Whether calls to a host are allowed, by policies that come later."""
    holder = Holder()
    with serve(world, kind, policy=holder, add=add) as serving:
        channels = {}

        def is_allowed(policy, host="localhost"):
            holder.current = policy
            if host not in channels:
                channels[host] = serving.channel(options=[("grpc.default_authority", host)])
            call = channels[host].unary_unary(path("unary_unary")).future(b"a", timeout=10)
            if call.exception() is None:
                return True
            assert (call.code(), call.details()) == DENIED
            return False

        yield is_allowed, serving.port


class TestHosts:
    def test_threaded(self, world):
        """A threaded server knows the authority; case and port do not matter."""
        with deciding(world, "threaded") as (is_allowed, _):
            orders = policies(", hosts: orders.shop.svc")
            for host in ("orders.shop.svc", "orders.shop.svc:8443", "ORDERS.shop.svc"):
                assert is_allowed(orders, host)
                assert not is_allowed(policies(deny="hosts: orders.shop.svc"), host)
                assert not is_allowed(policies(", notHosts: orders.shop.svc"), host)
            for host in ("admin.shop.svc", "xorders.shop.svc"):
                assert not is_allowed(orders, host)
                assert is_allowed(policies(deny="hosts: orders.shop.svc"), host)
                assert not is_allowed(policies(deny="notHosts: orders.shop.svc"), host)

    @pytest.mark.parametrize("kind", ["async", "async-threads"])
    def test_unknown(self, world, kind):
        """An asyncio server cannot know it: no rule that asks for it lets a call in."""
        with deciding(world, kind) as (is_allowed, _):
            assert is_allowed(policies())
            for rule in ("hosts: localhost", "notHosts: other"):
                assert not is_allowed(policies(", " + rule))
            for rule in ("hosts: localhost", "hosts: other", "notHosts: localhost"):
                assert not is_allowed(policies(deny=rule))
                assert not is_allowed(policies(deny=f"grpc: '{UNARY}', {rule}"))
            assert is_allowed(policies(deny="grpc: 'shop.Orders/unary_stream', hosts: localhost"))


class TestPorts:
    @pytest.mark.parametrize("kind", KINDS)
    def test_only_port(self, world, kind):
        """With one port, rules know it."""
        with deciding(world, kind) as (is_allowed, port):
            assert is_allowed(policies(f", ports: {port}"))
            assert not is_allowed(policies(", ports: 1"))
            assert not is_allowed(policies(f", notPorts: {port}"))
            assert not is_allowed(policies(deny=f"ports: {port}"))
            assert is_allowed(policies(deny="ports: 1"))
            assert not is_allowed(policies(deny="notPorts: 1"))

    @pytest.mark.parametrize("kind", KINDS)
    def test_several_ports(self, world, kind):
        """With several, nobody says which one a call came to: none is taken for granted."""
        more = []

        def add(made):
            more.append(made.add_secure_port("127.0.0.1:0"))

        with deciding(world, kind, add=add) as (is_allowed, port):
            for number in (port, *more):
                assert not is_allowed(policies(f", ports: {number}"))
                assert not is_allowed(policies(deny=f"ports: {number}"))
            assert not is_allowed(policies(", notPorts: 1"))
            assert is_allowed(policies())

    def test_unix_socket(self, world, tmp_path):
        """A socket of the file system is another way in: then the port is not known either."""
        socket = f"unix:{tmp_path}/s"
        with deciding(world, "threaded", add=lambda made: made.add_secure_port(socket)) as (
            is_allowed,
            port,
        ):
            assert not is_allowed(policies(f", ports: {port}"))
            assert not is_allowed(policies(deny="ports: 1"))
