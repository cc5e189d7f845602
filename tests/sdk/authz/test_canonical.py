# SPDX-License-Identifier: Apache-2.0
"""Requests that two parsers could understand differently never reach a policy."""

from __future__ import annotations

import time
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubetls_sdk.authz import GRPC, WEBSOCKET, refusal
from kubetls_sdk.authz.canonical import _about_method, _about_path, _about_wire


def sent(raw: bytes) -> tuple[str, bytes]:
    """The path and raw path as uvicorn's h11 fills them in."""
    return unquote(raw.decode("latin-1")), raw


REFUSED = [
    pytest.param(b"//admin", id="CVE-2021-31920-double-slash"),
    pytest.param(b"/a//b", id="double-slash-inside"),
    pytest.param(b"/admin//", id="double-slash-at-the-end"),
    pytest.param(b"/%2fadmin", id="CVE-2021-31920-encoded-slash"),
    pytest.param(b"/a%2Fadmin", id="CVE-2021-29492-encoded-slash"),
    pytest.param(b"/a%5Cadmin", id="CVE-2021-29492-encoded-backslash"),
    pytest.param(b"/a\\admin", id="backslash"),
    pytest.param(b"/admin#fragment", id="CVE-2021-39156-fragment"),
    pytest.param(b"/admin%23fragment", id="CVE-2021-32779-encoded-fragment"),
    pytest.param(b"/admin;x", id="CVE-2026-73553-path-parameter"),
    pytest.param(b"/admin%3Bx", id="CVE-2026-73511-encoded-path-parameter"),
    pytest.param(b"/admin%3Fx", id="CVE-2020-8595-encoded-query"),
    pytest.param(b"/admin?x", id="query-in-the-raw-path"),
    pytest.param(b"/user/../admin", id="GO-2026-5242-dot-dot"),
    pytest.param(b"/user/%2e%2e/admin", id="GHSA-3q34-rx83-r6mq-encoded-dot-dot"),
    pytest.param(b"/user/.%2E", id="half-encoded-dot-dot"),
    pytest.param(b"/./admin", id="dot"),
    pytest.param(b"/admin/.", id="dot-at-the-end"),
    pytest.param(b"/admin%00", id="CVE-2025-66220-encoded-nul"),
    pytest.param(b"/admin\x00", id="nul"),
    pytest.param(b"/admin%0d%0aX", id="encoded-line-end"),
    pytest.param(b"/admin%7f", id="encoded-delete"),
    pytest.param(b"/admin%c2%85", id="encoded-next-line"),
    pytest.param(b"/admin%ff", id="not-utf-8"),
    pytest.param(b"/admin%ef%bf%bd", id="replacement-character"),
    pytest.param(b"/adm%zzin", id="broken-escape"),
    pytest.param(b"/admin%", id="cut-escape"),
    pytest.param(b"/a%252e", id="double-encoding"),
    pytest.param(b"/adm\xe4n", id="raw-latin-1"),
    pytest.param(b"/a b", id="space"),
    pytest.param(b"admin", id="CVE-2026-33186-no-leading-slash"),
    pytest.param(b"@google.com", id="PYSEC-2026-248-at-sign"),
    pytest.param(b"http://evil.test/admin", id="absolute-form"),
    pytest.param(b"evil.test:443", id="CVE-2026-73547-authority-form"),
    pytest.param(b"*", id="asterisk-form"),
    pytest.param(b"", id="empty"),
    pytest.param(b"/" + b"a" * 8192, id="too-long"),
]

ACCEPTED = [
    b"/",
    b"/orders/42",
    b"/orders/",
    b"/%61dmin",
    b"/caf%C3%A9",
    b"/a%20b",
    b"/.well-known/x",
    b"/a/..b/c..",
    b"/a.b-c_d~e",
    b"/a:b@c,d=e",
    b"/*",
    b"/" + b"a" * 8191,
]


class TestRefusal:
    @pytest.mark.parametrize("raw", REFUSED)
    def test_refuses_what_parsers_disagree_on(self, raw):
        """Each lesson of a published vulnerability is answered before policy."""
        assert refusal("GET", *sent(raw)) is not None

    @pytest.mark.parametrize("raw", ACCEPTED)
    def test_lets_canonical_requests_through(self, raw):
        """Ordinary paths, encoded characters and trailing slashes are canonical."""
        assert refusal("GET", *sent(raw)) is None

    @pytest.mark.parametrize("method", ["get", "Get", "GE T", "", "G-T", "GET\n", "CONNECT", "GÉT"])
    def test_refuses_odd_methods(self, method):
        """A method is upper-case letters, and CONNECT has no path."""
        assert refusal(method, "/a", b"/a") is not None

    @pytest.mark.parametrize("method", ["GET", "PURGE", WEBSOCKET, GRPC])
    def test_knows_methods(self, method):
        """Unusual methods and the pseudo-methods are fine."""
        assert refusal(method, "/a", b"/a") is None

    def test_refuses_two_hosts(self):
        """Some servers pass both on; which one a router takes is anybody's guess."""
        assert refusal("GET", "/a", b"/a", 2) == "more than one Host"

    def test_accepts_no_host(self):
        """HTTP/1.0 has none."""
        assert refusal("GET", "/a", b"/a", 0) is None

    def test_refuses_without_raw_path(self):
        """What was sent is unknown then."""
        assert refusal("GET", "/a", None) == "the server does not tell the raw path"

    @pytest.mark.parametrize(
        ("path", "raw"),
        [("/admin", b"/public"), ("/public", b"/api/public"), ("/a%20b", b"/a%20b"), ("", b"/")],
    )
    def test_refuses_a_path_that_is_not_the_one_sent(self, path, raw):
        """Policy and application decide on the same path, so a rewritten one is refused."""
        assert refusal("GET", path, raw) is not None

    def test_parameters_can_be_ordinary(self):
        """An application that uses ';' in its paths says so."""
        assert refusal("GET", "/a;b", b"/a;b", parameters=True) is None
        assert refusal("GET", "/a;b/..", b"/a;b/..", parameters=True) is not None

    def test_long_paths_take_no_longer(self):
        """The check is linear: no input makes the expression backtrack."""
        raw = b"/a." * 2700 + b"\x00"
        started = time.perf_counter()
        assert refusal("GET", *sent(raw)) is not None
        assert time.perf_counter() - started < 0.1

    @given(st.lists(st.text(min_size=1, max_size=8), max_size=5))
    def test_what_is_accepted_has_one_reading(self, segments):
        """An accepted path splits into the segments that were meant, none empty, none of dots."""
        raw = ("/" + "/".join(quote(segment, safe="") for segment in segments)).encode()
        path = unquote(raw.decode())
        if refusal("GET", path, raw) is None:
            found = path[1:].split("/")
            assert found == (segments or [""])
            assert not {".", ".."} & set(found)
            assert not any(char in path for char in "\\;?#%\0")

    @given(st.text("ab/.-;%25#\\\0é", max_size=8), st.sampled_from(["GET", "get", "CONNECT"]))
    def test_the_quick_way_accepts_nothing_more(self, text, method):
        """What the quick way lets through, the long way lets through as well."""
        raw = text.encode()
        path = unquote(text)
        long_way = _about_method(method, 1) or _about_wire(raw, parameters=False)
        assert refusal(method, path, raw) == (long_way or _about_path(path, raw))
