# SPDX-License-Identifier: Apache-2.0
"""PEM: what looks like a block is one, or it is an error that quotes nothing of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubetls_sdk import _pem

BLOCK = _pem.encode("CERTIFICATE", bytes(range(100)))
OTHER = _pem.encode("PRIVATE KEY", b"secret")


class TestBlocks:
    """Blocks come out in order, with their labels."""

    @given(st.binary(min_size=1, max_size=300), st.sampled_from(["CERTIFICATE", "PRIVATE KEY"]))
    def test_gives_back_what_was_encoded(self, der: bytes, label: str) -> None:
        """Encoding and reading are inverse."""
        assert _pem.blocks(_pem.encode(label, der)) == [_pem.PemBlock(label, der)]

    @pytest.mark.parametrize(
        "text",
        [
            BLOCK + OTHER,
            b"comment\n" + BLOCK + b"between\n\n" + OTHER + b"after",
            (BLOCK + OTHER).replace(b"\n", b"\r\n"),
            (BLOCK + OTHER).removesuffix(b"\n"),
            BLOCK.replace(b"-----\n", b"----- \t\n") + OTHER,
        ],
        ids=["plain", "text between", "CRLF", "no final newline", "trailing blanks"],
    )
    def test_finds_every_block(self, text: bytes) -> None:
        """Text around the blocks, line ends and blanks do not matter."""
        assert [block.label for block in _pem.blocks(text)] == ["CERTIFICATE", "PRIVATE KEY"]

    @pytest.mark.parametrize("text", [b"", b"\n \n", b"no block here", b"\0\xff"], ids=repr)
    def test_finds_none_in_other_text(self, text: bytes) -> None:
        """A text without a block gives an empty list; what that means is the caller's matter."""
        assert _pem.blocks(text) == []

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (BLOCK[:-5], "cut off"),
            (BLOCK[:40], "cut off"),
            (BLOCK + BLOCK[:60], r"block 2 .* cut off"),
            (BLOCK + b"-----BEGIN CERT", "malformed BEGIN"),
            (BLOCK + b"-----BEGIN", "malformed BEGIN"),
            (BLOCK + b"-----B", "malformed BEGIN"),
            (BLOCK + b"-", "malformed BEGIN"),
            (b"-----BEGIN certificate-----\nAA==\n-----END certificate-----\n", "malformed BEGIN"),
            (BLOCK.replace(b"BEGIN CERTIFICATE-----", b"BEGIN CERTIFICATE---"), "malformed BEGIN"),
            (b"-----BEGIN X----- junk\nAA==\n-----END X-----\n" + BLOCK, "malformed BEGIN"),
            (BLOCK.replace(b"END CERTIFICATE", b"END X"), "cut off"),
            (BLOCK.replace(b"END CERTIFICATE", b"END X") + BLOCK, "not valid base64"),
            (BLOCK[:50] + b"!" + BLOCK[50:], "not valid base64"),
            (BLOCK[:50] + b"\0" + BLOCK[50:], "not valid base64"),
            (BLOCK[:50] + b"A" + BLOCK[50:], "not valid base64"),
            (b"-----BEGIN X-----\nComment: y\n\nAA==\n-----END X-----\n", "has headers"),
            (
                b"-----BEGIN X-----\nProc-Type: 4,ENCRYPTED\n\nAA==\n-----END X-----\n",
                "is encrypted",
            ),
            (b"x" * (4 * 1024 * 1024 + 1), "at most 4194304 bytes"),
        ],
    )
    def test_refuses_what_only_looks_like_one(self, text: bytes, message: str) -> None:
        """Nothing malformed is skipped: a dropped block would be a dropped authority."""
        with pytest.raises(_pem.PemSyntaxError, match=message):
            _pem.blocks(text)

    def test_never_quotes_the_content(self) -> None:
        """Neither an error nor a `repr` shows what is in a block."""
        with pytest.raises(_pem.PemSyntaxError) as caught:
            _pem.blocks(OTHER.replace(b"c2Vj", b"c2!Vj"))
        shown = f"{caught.value!r} {caught.value.__cause__!r} {_pem.blocks(OTHER)!r}"
        assert "c2" not in shown
        assert "secret" not in shown
