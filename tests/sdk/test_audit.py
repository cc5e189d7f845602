# SPDX-License-Identifier: Apache-2.0
"""The audit log: one line of JSON for each decision, with stable names."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from datetime import datetime

import pytest

from kubetls_sdk import ConfigurationError, SpiffeId, TrustBundleSet, audit, verify_svid
from kubetls_sdk.authz import Decision, Kind, PolicySet
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.connection import EXTENSION, PeerConnection
from kubetls_sdk.server.refusal_log import log_refusal

WEB = SpiffeId.parse("spiffe://example.org/ns/shop/sa/web")
FIELDS = [
    "time",
    "event",
    "decision",
    "peer",
    "spiffe_id",
    "verified",
    "method",
    "path",
    "policy",
    "rule",
    "reason",
    "shadow",
    "generation",
    "sample",
    "tls",
    "user",
    "checks",
    "forwarded",
]


@pytest.fixture(params=["direct", "logging"])
def stream(request, monkeypatch):
    """What is written: directly, and where the logger has more handlers, as pytest adds them."""
    if request.param == "direct":
        monkeypatch.setattr(audit, "_log", logging.Logger(audit.LOGGER))
    written = io.StringIO()
    audit.enable(logging.StreamHandler(written))
    yield written
    audit.disable()


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def request(*, allowed, path="/orders/42", **more):
    audit.record(
        "request",
        allowed=allowed,
        peer="10.0.0.7:4711",
        spiffe_id=WEB,
        verified=True,
        method="GET",
        path=path,
        generation=3,
        **more,
    )


class TestRecord:
    def test_fields(self, stream):
        """A record has the documented fields in the documented order."""
        request(allowed=True, policy="orders", rule="web-reads", reason="a rule allows it")
        (line,) = lines(stream)
        assert list(line) == FIELDS
        assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
        assert line == {
            "event": "request",
            "decision": "allow",
            "peer": "10.0.0.7:4711",
            "spiffe_id": "spiffe://example.org/ns/shop/sa/web",
            "verified": True,
            "method": "GET",
            "path": "/orders/42",
            "policy": "orders",
            "rule": "web-reads",
            "reason": "a rule allows it",
            "shadow": None,
            "generation": 3,
            "sample": 1.0,
            "tls": None,
            "user": None,
            "checks": None,
            "forwarded": None,
        }

    def test_refused_handshake(self, stream):
        """An identity that a peer only claims is not a verified one."""
        audit.record("handshake", allowed=False, peer="10.0.0.7:1", spiffe_id=WEB, reason="expired")
        (line,) = lines(stream)
        assert (line["decision"], line["verified"]) == ("deny", False)

    def test_anonymous(self, stream):
        """A caller without identity is null, not an empty text."""
        audit.record("request", allowed=True, method="GET", path="/healthz")
        assert lines(stream)[0]["spiffe_id"] is None

    @pytest.mark.parametrize(
        ("level", "allowed"), [("INFO", True), ("WARNING", False)], ids=["allow", "deny"]
    )
    def test_level(self, allowed, level):
        """What is refused is a warning."""
        seen = []
        handler = logging.Handler()
        handler.emit = seen.append
        audit.enable(handler)
        try:
            request(allowed=allowed)
        finally:
            audit.disable()
        assert [(r.levelname, r.name) for r in seen] == [(level, "kubetls.audit")]
        assert isinstance(seen[0].msg, audit.AuditRecord)

    @pytest.mark.parametrize("code", [*range(0x20), 0x7F, 0x85, 0x9B, 0x2028, 0x202E, 0xD800])
    def test_control_characters(self, stream, code):
        """No character of a path can end a line, drive a terminal or be anything but ASCII."""
        request(allowed=False, path=f"/a{chr(code)}b")
        text = stream.getvalue()
        assert text.endswith("\n")
        assert text[:-1].isprintable()
        assert text.isascii()
        assert json.loads(text)["path"] == f"/a{chr(code)}b"

    def test_injection(self, stream):
        """Quotes and braces in a path cannot fake a field."""
        request(allowed=False, path='/a","decision":"allow","x":"\\')
        (line,) = lines(stream)
        assert line["decision"] == "deny"
        assert line["path"] == '/a","decision":"allow","x":"\\'

    def test_long_path(self, stream):
        """A path is cut: one request cannot write a megabyte."""
        request(allowed=False, path="/" + "a" * 100_000)
        assert lines(stream)[0]["path"] == "/" + "a" * 1023 + "..."
        assert len(stream.getvalue()) < 2000

    def test_format_characters(self, stream):
        """A percent sign in a path is no format of the logging module."""
        request(allowed=False, path="/%s%(x)d%")
        assert lines(stream)[0]["path"] == "/%s%(x)d%"


class TestDecision:
    def test_deny(self, stream):
        """A decision of the policy is recorded with rule, policy and reason."""
        decision = Decision(
            allowed=False, kind=Kind.DENIED, reason="a deny rule matches", policy="p", rule="r"
        )
        audit.record_decision(
            "request", decision, peer="h:1", spiffe_id=WEB, method="GET", path="/", generation=1
        )
        (line,) = lines(stream)
        assert (line["decision"], line["policy"], line["rule"]) == ("deny", "p", "r")
        assert (line["reason"], line["verified"]) == ("a deny rule matches", True)

    def test_shadow(self, stream):
        """What a shadow policy would have said is there when it differs."""
        other = Decision(allowed=False, kind=Kind.DENIED, reason="shadow")
        decision = Decision(allowed=True, kind=Kind.ALLOWED, reason="allowed", shadow=other)
        audit.record_decision(
            "request", decision, peer="h:1", spiffe_id=None, method="GET", path="/", generation=1
        )
        (line,) = lines(stream)
        assert (line["decision"], line["shadow"], line["verified"]) == ("allow", "deny", False)


class TestSampling:
    def test_allows_are_sampled(self, stream):
        """Only a share of what was allowed is written, and each line says which share."""
        audit.enable(logging.StreamHandler(stream), sample_allowed=0.2)
        for _ in range(2000):
            request(allowed=True)
        found = lines(stream)
        assert 250 < len(found) < 550  # 400 expected; 18 is the standard deviation
        assert {line["sample"] for line in found} == {0.2}

    def test_denies_never(self, stream):
        """Every refusal is written, even when no allowed request is."""
        audit.enable(logging.StreamHandler(stream), sample_allowed=0)
        for _ in range(100):
            request(allowed=False)
            request(allowed=True)
        assert [(line["decision"], line["sample"]) for line in lines(stream)] == [("deny", 1)] * 100

    @pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
    def test_out_of_range(self, share):
        """A share that is none is refused before anything changes."""
        with pytest.raises(ConfigurationError, match="from 0 to 1"):
            audit.enable(sample_allowed=share)
        assert not audit.is_enabled()


class TestEnable:
    def test_off_by_default(self, caplog):
        """Nothing is recorded until it is asked for."""
        assert not audit.is_enabled()
        with caplog.at_level(logging.DEBUG):
            request(allowed=False)
        assert caplog.records == []

    def test_again(self, stream):
        """Enabling again replaces the handler: no line is written twice."""
        second = io.StringIO()
        audit.enable(logging.StreamHandler(second))
        request(allowed=False)
        assert stream.getvalue() == ""
        assert len(second.getvalue().splitlines()) == 1

    def test_default_is_standard_output(self, capsys):
        """Without a handler the lines go to standard output, and to no other logger."""
        audit.enable()
        try:
            request(allowed=False)
        finally:
            audit.disable()
        captured = capsys.readouterr()
        assert json.loads(captured.out)["decision"] == "deny"
        assert captured.err == ""

    def test_disable(self, stream):
        """After `disable` nothing is written any more."""
        audit.disable()
        request(allowed=False)
        assert stream.getvalue() == ""

    def test_failing_handler(self, stream, monkeypatch, capsys):
        """A log that cannot be written does not fail the request."""
        stream.close()
        monkeypatch.setattr(logging, "raiseExceptions", False)
        request(allowed=False)
        assert capsys.readouterr().out == ""


POLICY = """
version: 1
policies:
  - name: orders
    allow:
      - name: web-reads
        from: {namespace: shop, serviceAccount: web}
        to: {methods: GET, paths: "/orders/{id}"}
"""


class TestServer:
    """What the server writes for each way that a request can go."""

    @pytest.fixture
    def source(self, kubetls_source):
        return kubetls_source("/ns/shop/sa/orders")

    @pytest.fixture
    def connection(self, kubetls_ca, source):
        web = kubetls_ca.issue("/ns/shop/sa/web")
        peer = verify_svid(web.chain, bundles=source.snapshot.bundles, now=kubetls_ca.now)
        return PeerConnection(source, peer, source.snapshot, address="10.0.0.7:4711")

    @staticmethod
    def serve(connection, *, method="GET", path="/orders/42", raw_path=None, kind="http"):
        async def app(scope, receive, send):
            pass

        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            pass

        domain = WEB.trust_domain
        policy = PolicySet.parse({"policy.yaml": POLICY}, trust_domain=domain)
        scope = {
            "type": kind,
            "path": path,
            "raw_path": raw_path or path.encode(),
            "headers": [(b"host", b"orders")],
            "extensions": {EXTENSION: connection},
        } | ({"method": method} if kind == "http" else {})
        asyncio.run(KubeTLSMiddleware(app, policy=policy)(scope, receive, send))

    def test_allowed(self, stream, connection):
        """An allowed request names the rule that allowed it and the generation."""
        self.serve(connection)
        (line,) = lines(stream)
        assert (line["event"], line["decision"], line["rule"]) == ("request", "allow", "web-reads")
        assert (line["peer"], line["generation"]) == ("10.0.0.7:4711", 1)
        assert (line["spiffe_id"], line["verified"]) == (str(WEB), True)

    def test_denied(self, stream, connection):
        """A request that no rule allows is written with the reason."""
        self.serve(connection, method="DELETE")
        (line,) = lines(stream)
        assert (line["decision"], line["method"], line["rule"]) == ("deny", "DELETE", None)
        assert line["reason"]

    def test_malformed(self, stream, connection):
        """A request that is not canonical is a refusal of a verified peer."""
        self.serve(connection, path="/orders/../admin")
        (line,) = lines(stream)
        assert (line["decision"], line["path"]) == ("deny", "/orders/../admin")
        assert (line["reason"], line["verified"]) == ("a dot segment in the path", True)

    def test_websocket(self, stream, connection):
        """A WebSocket handshake is an event of its own."""
        self.serve(connection, kind="websocket")
        (line,) = lines(stream)
        assert (line["event"], line["decision"]) == ("websocket", "deny")

    def test_removed_root(self, stream, connection, source):
        """A peer whose root was removed is refused twice: its request, and its connection."""
        source.replace(bundles=TrustBundleSet())
        self.serve(connection)
        request_line, connection_line = lines(stream)
        assert (request_line["event"], request_line["verified"]) == ("request", False)
        assert (connection_line["event"], connection_line["verified"]) == ("connection", False)
        assert "root was removed" in connection_line["reason"]

    def test_handshakes_are_never_dropped(self, stream, monkeypatch):
        """A flood of refused handshakes is cut in the server's log, but not in the audit log."""
        monkeypatch.setattr("kubetls_sdk.server.refusal_log._quotas", {})
        for _ in range(200):
            log_refusal("handshake", "it expired", address="10.0.0.7:1", spiffe_id=WEB)
        assert [line["event"] for line in lines(stream)] == ["handshake"] * 200
