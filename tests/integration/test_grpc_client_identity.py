# SPDX-License-Identifier: Apache-2.0
"""Which servers a gRPC channel of ours accepts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from kubetls_sdk import ConfigurationError, StaticSource, TrustBundleSet
from kubetls_sdk.client.grpc import ServiceName, secure_channel
from tests.integration.grpc_calling import ORDERS, WEB, both, opened
from tests.integration.grpc_world import (
    ARITIES,
    Plain,
    World,
    code_of,
    invoke,
    serve,
    serve_stock,
)

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def world():
    return World()


@pytest.fixture
def source(world):
    return StaticSource(
        world.ca.issue("/ns/shop/sa/web"),
        TrustBundleSet([world.ca.bundle, world.partner.bundle]),
    )


class TestServerIdentity:
    @both
    def test_expected(self, world, source, kind):
        """Calls of every arity reach the server that proves the expected identity."""
        with serve(world, "async") as serving, opened(kind, serving.target, source) as channel:
            for arity in ARITIES:
                assert invoke(channel, arity, b"a") == [f"{WEB} a".encode()]

    @both
    def test_another_workload(self, world, source, kind):
        """Another workload of the same trust domain is refused in the handshake."""
        other = "spiffe://example.org/ns/shop/sa/payments"
        with (
            serve(world) as serving,
            opened(kind, serving.target, source, server_id=other) as channel,
        ):
            code, details = code_of(channel, "unary_unary", b"a")
            assert code is UNAVAILABLE
            assert "SANs" in details
            assert serving.orders.seen == []

    def test_one_of_several(self, world, source):
        """One of several expected identities is enough."""
        expected = ["spiffe://example.org/ns/shop/sa/payments", ORDERS]
        with (
            serve(world) as serving,
            opened("threaded", serving.target, source, server_id=expected) as channel,
        ):
            assert invoke(channel, "unary_unary", b"a")

    @pytest.mark.parametrize(
        "path_of_name", ["/ns/shop/sa/orders2", "/ns/shop/sa/order", "/ns/shop/sa/Orders", "/x"]
    )
    def test_similar_names(self, world, source, path_of_name):
        """Names are compared whole and with case."""
        server = world.ca.issue(path_of_name, dns_names=("localhost",))
        orders = Plain()
        with serve_stock(server, orders) as target, opened("threaded", target, source) as channel:
            assert code_of(channel, "unary_unary", b"a")[0] is UNAVAILABLE
            assert orders.seen == []

    def test_forged_by_a_partner(self, world, source):
        """A partner, whom we trust, cannot mint our server's name."""
        forged = world.partner.issue_for("example.org", "/ns/shop/sa/orders")
        orders = Plain()
        with serve_stock(forged, orders) as target, opened("threaded", target, source) as channel:
            assert code_of(channel, "unary_unary", b"a")[0] is UNAVAILABLE
            assert orders.seen == []

    def test_partner(self, world, source):
        """A server of a partner is verified by the partner's bundle."""
        server = world.partner.issue("/ns/x/sa/y")
        name = "spiffe://partner.example/ns/x/sa/y"
        with (
            serve_stock(server, Plain()) as target,
            opened("threaded", target, source, server_id=name) as channel,
        ):
            assert invoke(channel, "unary_unary", b"a") == [b"ok"]

    def test_intermediates(self, world, source):
        """A server's leaf may be under intermediates that it sends."""
        server = world.ca.issue("/ns/shop/sa/orders", intermediates=2)
        with serve_stock(server, Plain()) as target, opened("threaded", target, source) as channel:
            assert invoke(channel, "unary_unary", b"a") == [b"ok"]

    @pytest.mark.parametrize(
        "fault",
        ["expired", "untrusted_root", "client_only_eku", "missing_intermediate"],
    )
    def test_faults(self, world, source, fault):
        """A server whose chain is no proof gets no call."""
        chain = world.ca.issue_faulty(fault, "/ns/shop/sa/orders")
        orders = Plain()
        with serve_stock(chain, orders) as target, opened("threaded", target, source) as channel:
            assert code_of(channel, "unary_unary", b"a")[0] is UNAVAILABLE
            assert orders.seen == []

    def test_no_bundle(self, world, source):
        """Without a bundle of the server's trust domain nobody is trusted, and not the web."""
        name = "spiffe://unknown.example/ns/x/sa/y"
        with (
            serve(world) as serving,
            opened("threaded", serving.target, source, server_id=name) as channel,
        ):
            assert code_of(channel, "unary_unary", b"a")[0] is UNAVAILABLE

    @pytest.mark.parametrize(
        "server_id",
        [
            "spiffe://example.org/ns/shop/sa/*",
            [ORDERS, "spiffe://partner.example/ns/x/sa/y"],
            [],
            None,
        ],
        ids=["pattern", "two-domains", "empty", "none"],
    )
    def test_what_cannot_be_verified(self, source, server_id):
        """What the handshake cannot verify is refused when the channel is made."""
        with pytest.raises(ConfigurationError):
            secure_channel("localhost:1", source, server_id=server_id)


class TestServiceName:
    @both
    def test_expected(self, world, source, kind):
        """A server is accepted for the DNS name that our own trust domain vouches for."""
        server = world.ca.issue("/ns/shop/sa/any", dns_names=("orders.shop.svc",))
        name = ServiceName("Orders.shop.svc.")
        with (
            serve_stock(server, Plain()) as target,
            opened(kind, target, source, server_id=name) as channel,
        ):
            assert invoke(channel, "unary_unary", b"a") == [b"ok"]

    @pytest.mark.parametrize(
        "dns_name",
        [
            "other.shop.svc",
            "*.shop.svc",
            "ordersxshop.svc",
            "orders.shop.svc.x",
            "x.orders.shop.svc",
        ],
    )
    def test_another_name(self, world, source, dns_name):
        """Another name, a wildcard too, is refused."""
        server = world.ca.issue("/ns/shop/sa/any", dns_names=(dns_name,))
        name = ServiceName("orders.shop.svc")
        with (
            serve_stock(server, Plain()) as target,
            opened("threaded", target, source, server_id=name) as channel,
        ):
            assert code_of(channel, "unary_unary", b"a")[0] is UNAVAILABLE

    def test_partner(self, world, source):
        """A partner may not vouch for our service names."""
        server = world.partner.issue("/ns/x/sa/y", dns_names=("orders.shop.svc",))
        name = ServiceName("orders.shop.svc")
        with (
            serve_stock(server, Plain()) as target,
            opened("threaded", target, source, server_id=name) as channel,
        ):
            assert code_of(channel, "unary_unary", b"a")[0] is UNAVAILABLE


class TestOneIdentity:
    """Where the environment lets gRPC read bundle maps, a server has one SPIFFE ID and no other."""

    # An authority of the server's own trust domain would have to issue these; gRPC looks at names.
    STILL_TAKEN = frozenset(
        {
            "ca_leaf", "crl_sign", "key_cert_sign", "key_usage_not_critical", "long_chain",
            "no_aki", "no_key_usage", "server_only_eku",
        }
    )  # fmt: skip

    def test_strict(self):
        """Two identities and one with a NUL are refused in the handshake; good servers are not."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.integration.grpc_strict"],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "GRPC_EXPERIMENTAL_XDS_MTLS_SPIFFE": "true"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads(done.stdout)
        assert set(found["good"].values()) == {f"{WEB} a", "ok"}
        taken = {name for name, answer in found["bad"].items() if answer != "UNAVAILABLE"}
        assert taken == self.STILL_TAKEN
        assert {"two_uris", "nul_in_uri", "nobody trusted"} <= set(found["bad"])
