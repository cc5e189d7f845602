# SPDX-License-Identifier: Apache-2.0
"""The bytes of a request head."""

from __future__ import annotations

import asyncio

import pytest

from kubetls_sdk.client._http11_request import (
    CHUNKED,
    SLICE_BYTES,
    RequestError,
    encode_body,
    encode_head,
)

HOST = (b"Host", b"orders")


class TestEncode:
    def test_bytes(self):
        """Order, case and values of the headers are kept as they are."""
        head = encode_head(b"GET", b"/a?b=c", [HOST, (b"x-Empty", b""), (b"X-Odd", b"\xe4 \t;")])
        assert head.encoded == (
            b"GET /a?b=c HTTP/1.1\r\nHost: orders\r\nx-Empty: \r\nX-Odd: \xe4 \t;\r\n\r\n"
        )

    @pytest.mark.parametrize(
        ("headers", "length"),
        [
            pytest.param([], 0, id="none"),
            pytest.param([(b"content-length", b"12")], 12, id="length"),
            pytest.param([(b"Transfer-Encoding", b"Chunked")], CHUNKED, id="chunked"),
        ],
    )
    def test_body_length(self, headers, length):
        """The head says how long the body will be."""
        assert encode_head(b"POST", b"/", [HOST, *headers]).body_length == length


class TestRefuse:
    @pytest.mark.parametrize("byte", [b"\r", b"\n", b"\0", b"\r\nEvil: 1"])
    @pytest.mark.parametrize("place", ["method", "target", "name", "value"])
    def test_line_breaks(self, byte, place):
        """No part of a request can begin a line of its own."""
        parts = {"method": b"GET", "target": b"/", "name": b"X", "value": b"1"}
        parts[place] += byte
        with pytest.raises(RequestError):
            encode_head(parts["method"], parts["target"], [HOST, (parts["name"], parts["value"])])

    @pytest.mark.parametrize(
        ("method", "target", "name"),
        [
            pytest.param(b"", b"/", b"X", id="no-method"),
            pytest.param(b"G T", b"/", b"X", id="space-in-method"),
            pytest.param(b"GET", b"", b"X", id="no-target"),
            pytest.param(b"GET", b"/a b", b"X", id="space-in-target"),
            pytest.param(b"GET", b"/", b"", id="no-name"),
            pytest.param(b"GET", b"/", b"X:", id="colon-in-name"),
            pytest.param(b"GET", b"/", b"X Y", id="space-in-name"),
        ],
    )
    def test_grammar(self, method, target, name):
        """What is not in the grammar is not sent."""
        with pytest.raises(RequestError):
            encode_head(method, target, [HOST, (name, b"")])

    @pytest.mark.parametrize(
        "framing",
        [
            pytest.param(
                [(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")], id="both"
            ),
            pytest.param([(b"Content-Length", b"1"), (b"content-length", b"2")], id="two-lengths"),
            pytest.param([(b"Content-Length", b"+1")], id="sign"),
            pytest.param([(b"Content-Length", b"1_0")], id="underscore"),
            pytest.param([(b"Content-Length", b"")], id="empty"),
            pytest.param([(b"Transfer-Encoding", b"gzip, chunked")], id="gzip"),
        ],
    )
    def test_ambiguous_framing(self, framing):
        """A body has one length, said once (request smuggling)."""
        with pytest.raises(RequestError, match="expected one Content-Length"):
            encode_head(b"POST", b"/", [HOST, *framing])

    @pytest.mark.parametrize("hosts", [[], [HOST, HOST]])
    def test_host(self, hosts):
        """There is one Host header."""
        with pytest.raises(RequestError, match="expected one Host header"):
            encode_head(b"GET", b"/", hosts)


class TestBody:
    @pytest.mark.parametrize(
        ("length", "expected"),
        [
            pytest.param(5, [b"ab", b"cde"], id="length"),
            pytest.param(CHUNKED, [b"2\r\nab\r\n", b"3\r\ncde\r\n", b"0\r\n\r\n"], id="chunked"),
        ],
    )
    def test_parts(self, length, expected):
        """Parts keep their order; empty ones, which would end a chunked body, are left out."""
        assert encoded(parts(b"ab", b"", b"cde"), length) == expected

    @pytest.mark.parametrize("is_whole", [True, False])
    def test_large_ones_are_cut(self, is_whole):
        """No part is larger than the transport's buffer should be."""
        body = bytes(range(256)) * 1000
        got = encoded(body if is_whole else parts(body), len(body))
        assert b"".join(got) == body
        assert max(map(len, got)) == SLICE_BYTES

    @pytest.mark.parametrize("length", [2, 4])
    def test_another_length(self, length):
        """A body that is not as long as its head says is an error."""
        with pytest.raises(RequestError, match=f"expected a body of {length} bytes"):
            encoded(parts(b"a", b"bc"), length)


async def parts(*each):
    for part in each:
        yield part


def encoded(body, length):
    async def collect():
        return [part async for part in encode_body(body, length)]

    return asyncio.run(collect())
