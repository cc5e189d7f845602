# SPDX-License-Identifier: Apache-2.0
"""Requests that try to slip past the policy behind, or inside, others on one connection."""

from __future__ import annotations

import re

import pytest

from kubetls_sdk.authz import PolicySet
from tests.integration.serving import Serving, World, serve
from tests.integration.test_server_hypercorn import running
from tests.waiting import until

HOST = b" HTTP/1.1\r\nhost: orders\r\n"
ALLOWED, DENIED = b"GET /open" + HOST + b"\r\n", b"GET /secret" + HOST + b"\r\n"
H2C = (
    b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
    b"http2-settings: AAMAAABkAAQAAP__\r\n\r\n"
)
POLICY = """
version: 1
policies:
  - name: orders
    allow:
      - {name: open, from: {namespace: shop}, to: {paths: /open}}
"""


@pytest.fixture
def world():
    return World()


@pytest.fixture
def policy(world):
    return PolicySet.parse({"p": POLICY}, trust_domain=world.ca.trust_domain)


def post(path, body, *fields):
    head = b"POST " + path + HOST + b"".join(field + b"\r\n" for field in fields)
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


def statuses(serving, world, sent, count):
    """Send it all at once; the statuses of the answers, and what reached the application."""
    connection = serving.connect(world.client())
    connection.sendall(sent)
    received = b""

    def complete():
        nonlocal received
        received += connection.recv(65536)
        return len(_found(received)) == count

    until(complete)
    connection.close()
    return _found(received), [scope["path"] for scope in world.application.scopes]


def _found(received):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", received)]


@pytest.mark.parametrize("http", ["h11", "httptools", "zttp"])
class TestPipelining:
    """Each request is judged by itself, and none is found where there is none."""

    @pytest.mark.parametrize(
        ("sent", "expected"),
        [
            pytest.param(DENIED + ALLOWED, [403, 200], id="denied-allowed"),
            pytest.param(ALLOWED + DENIED, [200, 403], id="allowed-denied"),
            pytest.param(DENIED.replace(b"GET", b"HEAD") + ALLOWED, [403, 200], id="head"),
            pytest.param(post(b"/secret", ALLOWED) + DENIED, [403, 403], id="body-of-a-denied"),
            pytest.param(post(b"/open", DENIED) + ALLOWED, [200, 200], id="body-of-an-allowed"),
        ],
    )
    def test_order(self, world, policy, http, sent, expected):
        """A denied request neither lends its body to a second one, nor takes the connection."""
        with serve(world, policy=policy, http=http) as serving:
            found, reached = statuses(serving, world, sent, len(expected))
        assert found == expected
        assert reached == ["/open"] * expected.count(200)

    def test_continue(self, world, policy, http):
        """Nobody is invited to send the body of a denied request."""
        sent = post(b"/secret", b"", b"expect: 100-continue").replace(b"h: 0", b"h: 5")
        with serve(world, policy=policy, http=http) as serving:
            assert statuses(serving, world, sent, 1) == ([403], [])

    def test_cleartext_http2(self, world, policy, http):
        """An upgrade to HTTP/2 inside TLS is not taken, and not a way around."""
        sent = DENIED[:-2] + H2C
        with serve(world, policy=policy, http=http, http2=http == "zttp") as serving:
            assert statuses(serving, world, sent, 1) == ([403], [])


class TestHypercorn:
    def test_cleartext_http2(self, world, policy):
        """The upgrade is taken; policy and identity are there all the same."""
        with running(world, policy=policy) as server:
            serving = Serving(None, server.port)
            for request in (DENIED, ALLOWED):
                found, _ = statuses(serving, world, request[:-2] + H2C, 1)
                assert found == [101]
            until(lambda: world.application.scopes)
        (scope,) = world.application.scopes
        assert (scope["path"], scope["http_version"]) == ("/open", "2")
        assert str(scope["state"]["caller"]) == "spiffe://example.org/ns/shop/sa/web"
