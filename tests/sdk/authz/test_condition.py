# SPDX-License-Identifier: Apache-2.0
"""Conditions: typed, total, and closed when they cannot be decided."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubetls_sdk.authz import GRPC, WEBSOCKET, RequestDetails
from kubetls_sdk.authz.condition import Operator, holds
from kubetls_sdk.authz.contradiction import check_satisfiable
from kubetls_sdk.authz.expression import parse_condition
from kubetls_sdk.authz.request import Request
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.spiffe_id import SpiffeId
from tests.sdk.authz.policies import WEB

WEDNESDAY = datetime(2026, 11, 25, 13, 30, tzinfo=UTC)


def verdict(text, *, closed=False, variables=(), **details) -> bool:
    request = Request(WEB, "GET", "/", RequestDetails(**details), variables)
    return holds(parse_condition(text), request, closed=closed)


def both(text, **details) -> tuple[bool, bool]:
    """What it means in an allow rule and in a deny rule."""
    return verdict(text, **details), verdict(text, closed=True, **details)


TRUE, FALSE, UNDECIDED = (True, True), (False, False), (False, True)

CLAIMS = [
    ("user.a == 'x'", {"a": "x"}, TRUE),
    ("user.a == 'x'", {"a": "y"}, FALSE),
    ("user.a == 'x'", {}, FALSE),
    ("user.a == 'x'", {"a": ""}, FALSE),
    ("user.a == 'x'", {"a": None}, FALSE),
    ("user.a == 'x'", None, FALSE),
    ("user.a == 'x'", {"a": ["x"]}, UNDECIDED),
    ("user.a == 'x'", {"a": 1}, UNDECIDED),
    ("user.a == 1", {"a": True}, UNDECIDED),
    ("user.a == 1", {"a": 1.0}, TRUE),
    ("user.a == 1", {"a": "1"}, UNDECIDED),
    ("user.a == true", {"a": True}, TRUE),
    ("user.a == true", {"a": 1}, UNDECIDED),
    ("user.a == true", {"a": "true"}, UNDECIDED),
    ("user.a != 'x'", {"a": "y"}, TRUE),
    ("user.a != 'x'", {"a": "x"}, FALSE),
    ("user.a != 'x'", {}, UNDECIDED),
    ("user.a in ['x', 'y']", {"a": "y"}, TRUE),
    ("user.a in ['x', 'y']", {"a": "z"}, FALSE),
    ("user.a in ['x', 'y']", {}, FALSE),
    ("user.a not in ['x']", {"a": "y"}, TRUE),
    ("user.a not in ['x']", {"a": "x"}, FALSE),
    ("user.a not in ['x']", {}, UNDECIDED),
    ("user.a not in ['x']", {"a": ["x"]}, UNDECIDED),
    ("user.a contains 'x'", {"a": ["w", "x"]}, TRUE),
    ("user.a contains 'x'", {"a": "w x"}, TRUE),
    ("user.a contains 'x'", {"a": "wx"}, FALSE),
    ("user.a contains 'x'", {"a": 3}, UNDECIDED),
    ("user.a not contains 'x'", {"a": ["w"]}, TRUE),
    ("user.a not contains 'x'", {}, UNDECIDED),
    ("user.a not contains 5", {"a": ["5"]}, UNDECIDED),
    ("user.a not contains 5", {"a": "5 6"}, UNDECIDED),
    ("user.a not contains 5", {"a": []}, TRUE),
    ("user.a not contains 'x'", {"a": [5, "w"]}, TRUE),
    ("user.a contains user.b", {"a": ["x"], "b": ["x"]}, UNDECIDED),
    ("user.a < 5", {"a": 4}, TRUE),
    ("user.a < 5", {"a": 5}, FALSE),
    ("user.a <= 5", {"a": 5}, TRUE),
    ("user.a > 5", {"a": 6}, TRUE),
    ("user.a >= 5", {"a": "9"}, UNDECIDED),
    ("user.a < 5", {"a": True}, UNDECIDED),
    ("user.a < 5", {"a": float("nan")}, UNDECIDED),
    ("user.a < 5", {}, UNDECIDED),
    ("user.a startsWith 'x'", {"a": "xy"}, TRUE),
    ("user.a endsWith 'y'", {"a": "xy"}, TRUE),
    ("user.a endsWith 'y'", {"a": 7}, UNDECIDED),
    ("user.a present", {"a": 0}, TRUE),
    ("user.a present", {"a": ""}, FALSE),
    ("user.a absent", {}, TRUE),
    ("user.a.b == 'x'", {"a": {"b": "x"}}, TRUE),
    ("user.a.b == 'x'", {"a": "b"}, FALSE),
    ("user['https://x/y'] == 'x'", {"https://x/y": "x"}, TRUE),
    ("user.a == user.b", {"a": "x", "b": "x"}, TRUE),
    ("user.a == user.b", {"a": "x"}, FALSE),
    ("user.a == user.b", {}, FALSE),
    ("user.a != user.b", {"a": "x"}, UNDECIDED),
    ("user.a in user.b", {"a": "x", "b": ["x"]}, TRUE),
    ("user.a in user.b", {"a": "x", "b": "x"}, UNDECIDED),
]

HEADERS = [
    ("header.x-a == 'v'", [b"v"], TRUE),
    ("header.x-a == 'v'", [], FALSE),
    ("header.x-a == 'v'", [b""], FALSE),
    ("header.x-a == 'v'", [b"v", b"w"], UNDECIDED),  # CVE-2026-26308: all for allow, any for deny
    ("header.x-a == 'v'", [b"v,w"], FALSE),  # CVE-2020-25017
    ("header.x-a != 'v'", [b"w", b"v"], UNDECIDED),
    ("header.x-a startsWith 'v'", [b"v\xe4\xff"], TRUE),  # CVE-2026-73552: bytes above 0x7f
    ("header.x-a in ['v', 'w']", [b"w", b"v"], TRUE),
]


class TestHolds:
    @pytest.mark.parametrize(("text", "user", "expected"), CLAIMS)
    def test_claims(self, text, user, expected):
        """True, false, or undecided: then an allow rule does not match and a deny rule does."""
        assert both(text, user=user) == expected

    @pytest.mark.parametrize(("text", "values", "expected"), HEADERS)
    def test_headers(self, text, values, expected):
        """All values have to fit for an allow rule; one is enough for a deny rule."""
        assert both(text, headers=[(b"X-A", value) for value in values]) == expected

    @pytest.mark.parametrize(
        ("text", "source", "expected"),
        [
            ("source.address in ['10.0.0.0/8']", "10.1.2.3", TRUE),
            ("source.address in ['10.0.0.0/8']", "11.1.2.3", FALSE),
            ("source.address in '10.0.0.0/8'", "::ffff:10.1.2.3", TRUE),
            ("source.address in ['10.0.0.0/8', 'fd00::/8']", "fd00::1", TRUE),
            ("source.address == '10.0.0.1'", "10.0.0.1", TRUE),
            ("source.address != '10.0.0.1'", "10.0.0.1", FALSE),
            ("source.address in '10.0.0.0/8'", None, FALSE),
            ("source.address in '10.0.0.0/8'", "010.0.0.1", FALSE),
            ("source.address not in '10.0.0.0/8'", "unix", UNDECIDED),
        ],
    )
    def test_source(self, text, source, expected):
        """Addresses in blocks, IPv4 in IPv6 clothes included."""
        assert both(text, source=source) == expected

    @pytest.mark.parametrize(
        ("text", "now", "expected"),
        [
            ("time.clock >= '13:30'", WEDNESDAY, TRUE),
            ("time.clock < '13:30'", WEDNESDAY, FALSE),
            ("time.weekday in ['wed']", WEDNESDAY, TRUE),
            ("time.weekday in ['sat', 'sun']", WEDNESDAY, FALSE),
            ("time.now < '2026-11-25T14:31:00+01:00'", WEDNESDAY, TRUE),
            ("time.now < '2026-11-25T14:30:00+01:00'", WEDNESDAY, FALSE),
            ("time.now < '2030-01-01T00:00:00Z'", None, UNDECIDED),
            ("time.now < '2030-01-01T00:00:00Z'", datetime(2026, 1, 1), UNDECIDED),  # noqa: DTZ001
        ],
    )
    def test_time(self, text, now, expected):
        """In UTC; without an aware clock nothing is certain."""
        assert both(text, now=now) == expected

    @pytest.mark.parametrize(
        ("text", "method", "expected"),
        [
            ("request.method == 'GET'", "GET", TRUE),
            ("request.method == 'GET'", "POST", FALSE),
            ("request.method == 'GET'", "HEAD", UNDECIDED),
            ("request.method == 'GET'", WEBSOCKET, UNDECIDED),
            ("request.method == 'POST'", GRPC, UNDECIDED),
            ("request.method != 'GET'", "HEAD", UNDECIDED),
            ("request.method in ['GET', 'HEAD']", "HEAD", TRUE),
            ("request.method == 'HEAD'", "GET", FALSE),
        ],
    )
    def test_method(self, text, method, expected):
        """HEAD and WebSocket handshakes are GETs as well, and gRPC calls are POSTs."""
        condition, request = parse_condition(text), Request(WEB, method, "/", RequestDetails())
        assert (
            holds(condition, request, closed=False),
            holds(condition, request, closed=True),
        ) == expected

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("ab"), inner),
        ),
        st.sampled_from([text for text, _, _ in CLAIMS]),
    )
    def test_is_total(self, value, text):
        """Whatever a claim is, there is an answer, and a deny rule closes at least as often."""
        allowed, denied = both(text, user={"a": value, "b": value})
        assert denied or not allowed


PHONE = "spiffe://example.org/ns/shop/sa/phone"
FORWARDED = [
    (f"forwarded.spiffeId == '{PHONE}'", PHONE, TRUE),
    (f"forwarded.spiffeId == '{PHONE}'", PHONE + "-2", FALSE),
    (f"forwarded.spiffeId == '{PHONE}'", None, FALSE),
    (f"forwarded.spiffeId in ['{PHONE}']", PHONE, TRUE),
    (f"forwarded.spiffeId != '{PHONE}'", PHONE, FALSE),
    (f"forwarded.spiffeId != '{PHONE}'", None, UNDECIDED),
    (f"forwarded.spiffeId not in ['{PHONE}']", None, UNDECIDED),
    ("forwarded.spiffeId present", PHONE, TRUE),
    ("forwarded.spiffeId present", None, FALSE),
    ("forwarded.spiffeId absent", None, TRUE),
    ("forwarded.trustDomain == 'example.org'", PHONE, TRUE),
    ("forwarded.trustDomain == 'spiffe://example.org'", PHONE, TRUE),
    ("forwarded.trustDomain == 'org'", PHONE, FALSE),
    ("forwarded.trustDomain in ['example.org']", "spiffe://partner.example/a", FALSE),
]


class TestForwarded:
    @pytest.mark.parametrize(("text", "client", "expected"), FORWARDED)
    def test_holds(self, text, client, expected):
        """Exact, and missing where no proxy that is believed has told of a client."""
        found = None if client is None else SpiffeId.parse(client)
        assert both(text, forwarded=found) == expected


class TestParseCondition:
    @pytest.mark.parametrize(
        "text",
        [
            "", "user.a", "user.a ==", "== 'x'", "user == 'x'", "user.a = 'x'", "user.a == x",
            "user.a == 'x' and user.b == 'y'", "user.a == 'it''s'", "user.a == 'a\\'b'",
            "user.a == \"x'", "user.a in 'x'", "user.a in []", "user.a == ['x']", "user.a > 'x'",
            "user.a > true", "user.a present 'x'", "user.a == 010", "user.a == 1e9",
            "user.a == user.a", "user.a < user.b", "user..a == 'x'", "nobody.a == 'x'",
            "header.X-A == 'x'", "header.x-a == 5", "header.x-a > 'x'", "header.a.b == 'x'",
            "path.a == 5", "path.a.b == 'x'", "source.port == 5", "source.address < '10.0.0.0/8'",
            "source.address in ['10.0.0.1/8']", "source.address in '::ffff:a00:0/104'",
            "request.method == 'get'", "request.method in ['GET', 'Post']",
            "source.address in ['host']",
            "source.address == user.ip", "request.host == 'a:80'", "request.port == 0",
            "request.port in [true]", "request.nothing == 'x'", "time.clock == '08:00'",
            "time.clock > '24:00'", "time.now > '2026-01-01'", "time.now > '2026-01-01T00:00:00'",
            "forwarded.spiffeId == 'phone'", "forwarded.spiffeId startsWith 'spiffe://a'",
            "forwarded.spiffeId == 'spiffe://a.b/*'", "forwarded.trustDomain == 'A.b'",
            "forwarded.trustDomain endsWith '.b'", "forwarded.namespace == 'x'",
            "forwarded.spiffeId == user.sub", "user.sub == forwarded.spiffeId",
            "time.weekday in ['Mon']", "time.zone == 'x'", "user.a == '\x1b'", "user.a matches 'x'",
            "user.a == 'x'\nuser.b == 'y'", "user.a == '" + "x" * 5000 + "'",
        ],
    )  # fmt: skip
    def test_refuses_what_is_not_a_condition(self, text):
        """Unknown names, types that do not fit, anything nested."""
        with pytest.raises(ConfigurationError):
            parse_condition(text)

    @pytest.mark.parametrize(
        "name",
        [
            "authorization", "cookie", "host", "connection", "transfer-encoding", "forwarded",
            "x-forwarded-for", "x-forwarded-client-cert", "x-spiffe-id", "grpc-timeout", "upgrade",
            "x_forwarded_client_cert", "client-cert", "client_cert", "client-cert-chain",
            "x-client-cert", "x-client-certificate",
            "sec-websocket-key", "x-real-ip", "proxy-authorization", "te", "content-length",
        ],
    )  # fmt: skip
    def test_refuses_security_headers(self, name):
        """What proxies, browsers and protocols set decides nothing."""
        with pytest.raises(ConfigurationError, match="expected a header"):
            parse_condition(f"header.{name} == 'x'")

    def test_keeps_its_text(self):
        """For reasons and explanations."""
        condition = parse_condition("  user.a not in ['x', 2, true]  ")
        assert condition.text == "user.a not in ['x', 2, true]"
        assert (condition.operator, condition.operand) == (Operator.NOT_IN, ("x", 2, True))


class TestCheckSatisfiable:
    @pytest.mark.parametrize(
        "texts",
        [
            ["user.a == 'x'", "user.a == 'y'"],
            ["user.a == 'x'", "user.a != 'x'"],
            ["user.a in ['x', 'y']", "user.a not in ['y', 'x']"],
            ["user.a in ['x', 'y']", "user.a in ['y', 'z']", "user.a != 'y'"],
            ["user.a == 'x'", "user.a startsWith 'y'"],
            ["user.a == 5", "user.a > 5"],
            ["user.a == '5'", "user.a > 5"],
            ["user.a > 5", "user.a < 5"],
            ["user.a > 5", "user.a <= 5"],
            ["user.a present", "user.a absent"],
            ["user.a == 'x'", "user.a absent"],
            ["time.clock >= '22:00'", "time.clock < '06:00'"],
            ["time.now > '2027-01-01T00:00:00Z'", "time.now < '2026-01-01T00:00:00Z'"],
            ["source.address in '10.0.0.0/8'", "source.address in '11.0.0.0/8'"],
            ["source.address in '10.1.0.0/16'", "source.address not in '10.0.0.0/8'"],
            ["source.address in '10.0.0.0/8'", "source.address in 'fd00::/8'"],
        ],
    )
    def test_refuses_contradictions(self, texts):
        """Both conditions are quoted."""
        with pytest.raises(ConfigurationError, match=r"contradictory: `.*` and `.*`"):
            check_satisfiable(map(parse_condition, texts))

    @pytest.mark.parametrize(
        "texts",
        [
            ["user.a == 'x'", "user.b == 'y'"],
            ["user.a in ['x', 'y']", "user.a != 'x'"],
            ["user.a >= 5", "user.a <= 5"],
            ["user.a == 'x'", "user.a present"],
            ["user.a == user.b", "user.a == user.c"],
            ["source.address in '10.0.0.0/8'", "source.address not in '10.1.0.0/16'"],
            ["time.clock >= '06:00'", "time.clock < '22:00'"],
        ],
    )
    def test_lets_the_rest_through(self, texts):
        """No false alarm."""
        check_satisfiable(map(parse_condition, texts))

    def test_repeated_headers_of_a_deny_rule(self):
        """Two values of one header make both conditions true; an allow rule wants all values."""
        conditions = [parse_condition(text) for text in ("header.a == 'x'", "header.a == 'y'")]
        check_satisfiable(conditions, closed=True)
        with pytest.raises(ConfigurationError):
            check_satisfiable(conditions)
