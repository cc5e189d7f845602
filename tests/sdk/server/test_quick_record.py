# SPDX-License-Identifier: Apache-2.0
"""The quick way in metrics and audit log: nothing but the same as on the long way, made faster."""

from __future__ import annotations

import asyncio
import io
import json
import logging

import pytest
from prometheus_client import CollectorRegistry

from kubetls_sdk import TrustBundleSet, audit, metrics
from kubetls_sdk.authz import Decision, Kind, PolicySet
from kubetls_sdk.server._quick_record import record_quickly
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.connection import EXTENSION, with_connection
from kubetls_sdk.server.record import record_request
from kubetls_sdk.server.verdicts import Admission
from tests.sdk.server.scopes import Recorder, World, http_scope

NOW = 1_790_000_000.0625
POLICY = """
version: 1
policies:
  - name: orders
    allow:
      - {{name: {rule}, from: {{namespace: shop}}, to: {{methods: [GET, POST], paths: "/**"}}}}
  - name: next
    mode: shadow
    deny:
      - {{name: no-forties, to: {{paths: /orders/40}}}}
"""


@pytest.fixture(scope="module")
def ca_world():
    return World()


@pytest.fixture
def world(ca_world):
    ca_world.source.replace(
        bundles=TrustBundleSet([ca_world.ca.bundle, ca_world.partner.bundle]),
        svid=ca_world.ca.issue("/ns/shop/sa/orders"),
    )
    return ca_world


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    """All records of a test are of one moment, so that lines can be compared."""
    monkeypatch.setattr("kubetls_sdk.audit.time", lambda: NOW)


@pytest.fixture
def written(monkeypatch):
    """What the audit log writes, directly: pytest adds handlers of its own to loggers it finds."""
    monkeypatch.setattr(audit, "_log", logging.Logger(audit.LOGGER))
    stream = io.StringIO()
    audit.enable(logging.StreamHandler(stream))
    assert audit._recorder.is_direct()
    yield stream
    audit.disable()


class Holder:
    def __init__(self, world, rule="all"):
        self._domain = world.ca.trust_domain
        self.change(rule)

    def change(self, rule):
        self.current = PolicySet.parse({"p": POLICY.format(rule=rule)}, trust_domain=self._domain)


class Server:
    """One middleware, and connections to it that take the quick way from the second request on."""

    def __init__(self, world):
        self.world = world
        self.holder = Holder(world)
        self.middleware = KubeTLSMiddleware(Recorder(), policy=self.holder)

    def connect(self, svid=..., address="10.0.0.7:4711"):
        connection = self.world.connection(svid)
        connection.address = address
        connection.requests = list  # as a server that can tell what is under way
        return connection

    def ask(self, connection, *paths, method="GET"):
        async def serve():
            app = with_connection(self.middleware, {"tls_version": 0x0304}, connection)
            for path in paths:
                await app(http_scope(path=path, method=method), None, self.send)

        asyncio.run(serve())

    async def send(self, message):
        assert message.get("status", 204) == 204


@pytest.fixture
def server(world, monkeypatch):
    quick = []

    def counting(*arguments):
        quick.append(arguments)
        record_quickly(*arguments[:3], NOW)

    monkeypatch.setattr("kubetls_sdk.server._quick_way.record_quickly", counting)
    found = Server(world)
    found.quick = quick
    return found


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def both_ways(world, stream, *, path, method="GET", decision=None):
    """What the long way and the quick way write about one request."""
    connection = world.connection()
    chosen = decision or Decision(True, Kind.ALLOWED, "a rule allows it", "p", "r")
    tls = {"tls": {"tls_version": 0x0304}, EXTENSION: connection}
    scope = {**http_scope(method=method, extensions=tls), "path": path}
    texts = []
    for record in (
        lambda: record_request(connection, chosen, method, scope),
        lambda: record_quickly(connection, Admission(None, chosen, method, path), scope, NOW),
    ):
        before = len(stream.getvalue())
        record()
        texts.append(stream.getvalue()[before:])
    return texts


CONTROLS = [*range(0x20), 0x7F, 0x85, 0x9B, 0x2028, 0x202E, 0xD800]
HOSTILE = [
    *(pytest.param(f"/a{chr(code)}b", id=f"{code:#x}") for code in CONTROLS),
    pytest.param('/a","decision":"deny","x":"', id="quotes"),
    pytest.param("/a\\", id="backslash"),
    pytest.param('/a\\"', id="escaped quote"),
    pytest.param('/"}\n{"time":"2026-01-01T00:00:00.000Z"', id="a line of its own"),
    pytest.param("/%s%(x)d{0}{time}", id="formats"),
    pytest.param("/\N{GRINNING FACE}", id="beyond the BMP"),
    pytest.param("/" + "a" * 5000, id="long"),
    pytest.param("/" + '"' * 5000, id="long when escaped"),
]  # fmt: skip


class TestLine:
    @pytest.mark.parametrize("path", HOSTILE)
    def test_hostile_path(self, world, written, path):
        """Whatever is in a path, it is one line of printable ASCII, the same on both ways."""
        long_way, quick = both_ways(world, written, path=path)
        assert quick == long_way
        assert quick.endswith("\n")
        assert quick[:-1].isprintable()
        assert quick.isascii()
        line = json.loads(quick)
        assert line["decision"] == "allow"
        assert line["path"] == (path if len(path) <= 1024 else path[:1024] + "...")

    @pytest.mark.parametrize("method", ['G"T', "GET\nX", "M" * 5000])
    def test_hostile_method(self, world, written, method):
        """The method is escaped and cut as well."""
        long_way, quick = both_ways(world, written, path="/", method=method)
        assert quick == long_way
        assert len(quick.splitlines()) == 1

    def test_shadow(self, world, written):
        """What a shadow policy would have said is in both."""
        shadow = Decision(False, Kind.DENIED, "shadow", "next", "no")
        decision = Decision(True, Kind.ALLOWED, "allowed", "p", "r", shadow=shadow)
        long_way, quick = both_ways(world, written, path="/", decision=decision)
        assert quick == long_way
        assert json.loads(quick)["shadow"] == "deny"

    def test_requests_of_a_server(self, server, written):
        """The first request takes the long way, the second the quick one: their lines are equal."""
        server.ask(server.connect(), "/orders/40", "/orders/40", "/orders/40")
        assert len(server.quick) == 2
        assert len(set(written.getvalue().splitlines())) == 1
        assert lines(written)[0]["tls"] == "TLSv1.3"

    def test_connections(self, server, written):
        """Equal requests on two connections differ in the address alone."""
        for address in ("10.0.0.7:1", "10.0.0.8:2"):
            server.ask(server.connect(address=address), "/", "/")
        assert [line["peer"] for line in lines(written)[1:]] == ["10.0.0.7:1"] + ["10.0.0.8:2"] * 2
        assert len(server.quick) == 3

    def test_identities(self, server, written):
        """Equal requests of two workloads have the identity of each."""
        other = server.world.ca.issue("/ns/shop/sa/cart")
        for svid in (server.world.svid, other, server.world.svid, other):
            server.ask(server.connect(svid), "/", "/")
        found = [line["spiffe_id"].rpartition("/")[2] for line in lines(written)]
        assert found == ["web", "web", "cart", "cart"] * 2

    def test_methods_and_paths(self, server, written):
        """Requests in turns each have their own method and path."""
        connection = server.connect()
        asked = [("GET", "/a"), ("POST", "/a"), ("GET", "/b")] * 3
        for method, path in asked:
            server.ask(connection, path, method=method)
        assert [(line["method"], line["path"]) for line in lines(written)] == asked
        assert len(server.quick) == 6


class TestChanges:
    def test_generation(self, server, written):
        """A new generation is in the next line of a living connection."""
        connection = server.connect()
        server.ask(connection, "/", "/")
        first = server.world.source.snapshot.generation
        server.world.source.replace(svid=server.world.ca.issue("/ns/shop/sa/orders"))
        server.ask(connection, "/", "/", "/")
        found = [line["generation"] for line in lines(written)]
        assert found == [first] * 2 + [first + 1] * 3
        assert len(server.quick) == 3

    def test_removed_root(self, server, written):
        """Nothing that was made before lets a peer in whose root was removed."""
        connection = server.connect()
        server.ask(connection, "/", "/")
        server.world.distrust()

        async def ask_again():
            app = with_connection(server.middleware, {}, connection)
            sent = []

            async def send(message):
                sent.append(message)

            await app(http_scope(path="/"), None, send)
            return sent

        assert asyncio.run(ask_again())[0]["status"] == 401
        assert [line["decision"] for line in lines(written)[:3]] == ["allow", "allow", "deny"]

    def test_policy(self, server, written):
        """A new policy is asked, and its rule is in the next line."""
        connection = server.connect()
        server.ask(connection, "/", "/")
        server.holder.change("renamed")
        server.ask(connection, "/", "/")
        assert [line["rule"] for line in lines(written)] == ["all"] * 2 + ["renamed"] * 2
        assert len(server.quick) == 2

    def test_audit_log(self, server, written):
        """Another audit log has the next line, with its own share."""
        connection = server.connect()
        server.ask(connection, "/", "/")
        other = io.StringIO()
        audit.enable(logging.StreamHandler(other), sample_allowed=0.999999)
        server.ask(connection, "/")
        assert len(lines(written)) == 2
        assert [line["sample"] for line in lines(other)] == [0.999999]

    def test_disabled(self, server, written):
        """After `disable` nothing is written, and after `enable` again."""
        connection = server.connect()
        server.ask(connection, "/", "/")
        audit.disable()
        server.ask(connection, "/")
        assert len(lines(written)) == 2
        audit.enable(logging.StreamHandler(written))
        server.ask(connection, "/")
        assert len(lines(written)) == 3

    def test_metrics(self, server):
        """Each request counts in the registry that is enabled then."""
        connection = server.connect()
        for count in (2, 3):
            registry = CollectorRegistry()
            metrics.enable(registry)
            try:
                server.ask(connection, *["/orders/40"] * count)
                for verdict, rule in (("allowed", "all"), ("shadow-denied", "no-forties")):
                    labels = {"decision": verdict, "rule": rule}
                    assert registry.get_sample_value(metrics.REQUESTS, labels) == count
            finally:
                metrics.disable()
        assert len(server.quick) == 4


class TestOtherWriters:
    def test_formatter(self, server):
        """A handler with a formatter, or of another class, gets the record itself."""
        seen = []
        handler = logging.Handler()
        handler.emit = seen.append
        audit.enable(handler)
        try:
            server.ask(server.connect(), "/", "/")
        finally:
            audit.disable()
        assert len(server.quick) == 1
        assert [type(record.msg) for record in seen] == [audit.AuditRecord] * 2
        assert seen[0].msg == seen[1].msg
        assert {record.levelname for record in seen} == {"INFO"}

    def test_second_handler(self, server, written):
        """A handler that somebody adds to the logger gets each record, too."""
        connection = server.connect()
        server.ask(connection, "/", "/")
        seen = []
        handler = logging.Handler()
        handler.emit = seen.append
        audit._log.addHandler(handler)
        server.ask(connection, "/")
        assert len(lines(written)) == 3
        assert [record.msg.path for record in seen] == ["/"]

    def test_replaced(self, server, monkeypatch):
        """A recorder that somebody put in place is called with the record."""
        records = []

        class Own:
            sample_allowed = 1.0

            def write(self, entry, level):
                records.append((entry, level))

        monkeypatch.setattr(audit, "_recorder", Own())
        server.ask(server.connect(), "/", "/")
        assert len(server.quick) == 1
        assert records[0] == records[1]
        assert (records[0][0].path, records[0][1]) == ("/", logging.INFO)

    def test_failing_stream(self, server, written, monkeypatch):
        """A log that cannot be written does not fail the request."""
        connection = server.connect()
        server.ask(connection, "/", "/")
        monkeypatch.setattr(logging, "raiseExceptions", False)
        written.close()
        server.ask(connection, "/")
        assert len(server.quick) == 2


class TestSampling:
    def test_share(self, server, written):
        """The choice is made for each request, on the quick way as on the long one."""
        audit.enable(logging.StreamHandler(written), sample_allowed=0.2)
        server.ask(server.connect(), *["/"] * 1000)
        assert len(server.quick) == 999
        assert 130 < len(lines(written)) < 280  # 200 expected; 13 is the standard deviation

    def test_none(self, server, written):
        """With a share of zero no allowed request is written."""
        audit.enable(logging.StreamHandler(written), sample_allowed=0)
        server.ask(server.connect(), *["/"] * 50)
        assert written.getvalue() == ""
