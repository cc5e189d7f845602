# SPDX-License-Identifier: Apache-2.0
"""Claims of identity in the metadata of gRPC calls: nobody sees them, and nobody is believed."""

from __future__ import annotations

import grpc
import pytest

from kubetls_sdk.authz import PolicySet
from tests.integration.grpc_world import (
    ARITIES,
    KINDS,
    AsyncOrders,
    Orders,
    World,
    code_of,
    invoke,
    serve,
)

DENIED = (grpc.StatusCode.PERMISSION_DENIED, "permission denied")
CLAIMS = [
    ("x-forwarded-client-cert", "URI=spiffe://example.org/admin"),
    ("x_forwarded_client_cert", "URI=spiffe://example.org/admin"),
    ("client-cert", ":AAAA:"),
    ("x-spiffe-id-bin", b"spiffe://example.org/admin"),
    ("x-kept", "1"),
]


class Listing:
    """Answers with the names of the metadata, beside who calls."""

    def who(self, context):
        names = sorted(key for key, _ in context.invocation_metadata())
        return ",".join(name for name in names if name != "user-agent").encode()


class ListingOrders(Listing, Orders):
    pass


class ListingAsyncOrders(Listing, AsyncOrders):
    pass


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.mark.parametrize("kind", KINDS)
def test_application(world, kind):
    """What claims an identity is not in the metadata that a method reads; the rest is."""
    orders = ListingAsyncOrders() if kind == "async" else ListingOrders()
    with serve(world, kind, orders=orders) as serving:
        channel = serving.channel()
        for arity in ARITIES:
            assert b"x-kept" in str(invoke(channel, arity, b"a", metadata=CLAIMS)).encode()
            assert "client" not in str(invoke(channel, arity, b"a", metadata=CLAIMS))
            assert "spiffe" not in str(invoke(channel, arity, b"a", metadata=CLAIMS))


@pytest.mark.parametrize("kind", ["threaded", "async"])
def test_policy(world, kind):
    """A rule about a forwarded client lets no call in: gRPC servers believe no proxy."""
    text = (
        "version: 1\npolicies:\n- name: p\n  allow:\n  - name: phones\n"
        "    from: {namespace: shop}\n    to: {grpc: shop.Orders/*}\n"
        "    when: forwarded.spiffeId present\n"
    )
    policy = PolicySet.parse({"p": text}, trust_domain=world.ca.trust_domain)
    with serve(world, kind, policy=policy) as serving:
        assert code_of(serving.channel(), "unary_unary", b"a", metadata=CLAIMS) == DENIED
