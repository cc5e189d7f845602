# SPDX-License-Identifier: Apache-2.0
"""gRPC servers that authenticate end users, and the tokens of those."""

from __future__ import annotations

import threading

from kubetls_sdk import TrustDomain
from kubetls_sdk.authz import PolicySet
from kubetls_sdk.server.grpc import end_user
from kubetls_sdk.users import InlineKeys, Issuer, KeySet, UserSettings
from tests.integration.grpc_world import AsyncOrders, Orders, serve
from tests.tokens import AUDIENCE, ISSUER, Signer

SIGNER = Signer("ES256")
ALICE = f"{ISSUER}|alice".encode()
RULES = """
version: 1
policies:
  - name: orders
    allow:
      - name: alice-calls
        from: {namespace: shop, serviceAccount: web}
        to: {grpc: "shop.Orders/*"}
        when: user.sub == 'alice'
      - name: anybody-cancels
        from: {namespace: shop}
        to: {actions: cancel, resources: order}
        when: resource.owner == user.sub
"""
OPTIONAL = """
version: 1
policies:
  - name: orders
    allow:
      - name: web-calls
        from: {namespace: shop, serviceAccount: web}
        to: {grpc: "shop.Orders/*"}
        user: optional
"""


def policies(text=RULES):
    return PolicySet.parse({"p.yaml": text}, trust_domain=TrustDomain("example.org"))


class SaysUser:
    """Answers with the end user instead of the caller."""

    def who(self, context):
        user = end_user(context)
        return b"nobody" if user is None else f"{user.issuer}|{user.subject}".encode()


class UserOrders(SaysUser, Orders):
    pass


class AsyncUserOrders(SaysUser, AsyncOrders):
    pass


class Keys:
    """Keys at hand, or on their way."""

    def __init__(self):
        self.keys = KeySet.parse(SIGNER.jwks().encode())
        self.flying = None
        self.asked = threading.Event()

    def open(self):
        return self

    def usable(self):
        return None if self.flying is not None and not self.flying.done() else self.keys

    def flight(self, kid):
        del kid
        self.asked.set()
        return self.flying if self.flying is not None and not self.flying.done() else None

    def last(self):
        return self.keys

    def close(self):
        """Nothing."""


def settings(keys=None, **changes):
    keys = keys or InlineKeys.parse(SIGNER.jwks())
    issuer = Issuer(name=ISSUER, audiences=AUDIENCE, keys=keys, leeway_seconds=0)
    return UserSettings(issuers=(issuer,), **changes)


def serve_users(world, kind="threaded", *, users, **more):
    more.setdefault("policy", policies())
    more.setdefault("orders", AsyncUserOrders() if kind == "async" else UserOrders())
    return serve(world, kind, users=users, **more)


def bearer(*tokens):
    return [("authorization", f"Bearer {token.decode()}") for token in tokens]
