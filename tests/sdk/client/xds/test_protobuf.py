# SPDX-License-Identifier: Apache-2.0
"""The encoding of protocol buffers, beside the official one."""

from __future__ import annotations

import pytest
from google.protobuf import any_pb2, duration_pb2
from hypothesis import given
from hypothesis import strategies as st

from kubetls_sdk.client.xds.protobuf import any_of, fields, message


class TestMessage:
    @given(st.integers(0, 2**63 - 1), st.integers(0, 999_999_999))
    def test_integers(self, seconds, nanos):
        """Integers are read by the official implementation as they were written."""
        parsed = duration_pb2.Duration.FromString(message({1: seconds, 2: nanos}))
        assert (seconds, nanos) == (parsed.seconds, parsed.nanos)

    @given(st.text(max_size=400), st.binary(max_size=400))
    def test_texts_and_bytes(self, text, content):
        """So are texts and embedded messages."""
        parsed = any_pb2.Any.FromString(message({1: text, 2: content}))
        assert (text, content) == (parsed.type_url, parsed.value)

    def test_any(self):
        """A message can be put into an Any."""
        parsed = any_pb2.Any.FromString(any_of("t/google.protobuf.Duration", {1: 5}))
        assert duration_pb2.Duration.FromString(parsed.value).seconds == 5


class TestFields:
    @given(
        st.dictionaries(
            st.integers(1, 2000),
            st.one_of(st.integers(0, 2**63 - 1), st.binary(max_size=300)),
        )
    )
    def test_round_trip(self, content):
        """What was written is read, in order."""
        assert list(fields(message(content))) == list(content.items())

    def test_fixed_size(self):
        """Fields of a fixed size are skipped as bytes."""
        assert list(fields(b"\x0d1234\x11" + b"12345678\x18\x01")) == [
            (1, b"1234"), (2, b"12345678"), (3, 1),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        "encoded", [b"\x0a", b"\x0a\x05abc", b"\x80", b"\x0b", b"\xff" * 11, b"\x0d123"]
    )
    def test_malformed(self, encoded):
        """A part of a message is an error, never another message."""
        with pytest.raises(ValueError, match="expected"):
            list(fields(encoded))
