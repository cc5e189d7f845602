# SPDX-License-Identifier: Apache-2.0
"""Patterns over SPIFFE IDs: whole segments, one trust domain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubetls_sdk import SpiffeId, SpiffeIdError
from kubetls_sdk.spiffe_id_pattern import SpiffeIdPattern

WEB = "spiffe://example.org/ns/shop/sa/web"


class TestParse:
    """A pattern is a SPIFFE ID in which stars stand for whole segments."""

    @pytest.mark.parametrize(
        "text",
        [WEB, "spiffe://example.org", "spiffe://a/*", "spiffe://a/**", "spiffe://a/*/b/*/**"],
    )
    def test_gives_back_what_it_takes(self, text: str) -> None:
        """The text of a pattern is what was written."""
        assert str(SpiffeIdPattern.parse(text)) == text

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "*",
            "**",
            "spiffe://*",
            "spiffe://*/a",
            "spiffe://*.example.org/a",
            "spiffe://example.org/web-*",
            "spiffe://example.org/*-web",
            "spiffe://example.org/***",
            "spiffe://example.org/**/a",
            "spiffe://example.org/**/**",
            "spiffe://example.org/",
            "spiffe://example.org/*/",
            "spiffe://example.org//*",
            "spiffe://example.org/*\n",
            "spiffe://example.org/a\n",
            "spiffe://example.org/[a]",
            "spiffe://example.org/a|b",
            "spiffe://EXAMPLE.org/*",
            "example.org/*",
            "https://example.org/*",
        ],
        ids=repr,
    )
    def test_refuses_other_texts(self, text: str) -> None:
        """A misplaced star is an error, never a literal and never a wildcard."""
        with pytest.raises(SpiffeIdError):
            SpiffeIdPattern.parse(text)


class TestMatches:
    """Segment by segment, nothing else."""

    @pytest.mark.parametrize(
        ("pattern", "text", "expected"),
        [
            (WEB, WEB, True),
            (WEB, WEB + "x", False),
            (WEB, WEB + "/x", False),
            (WEB, "spiffe://example.org/ns/shop/sa", False),
            (WEB, WEB.replace("web", "Web"), False),
            (WEB, WEB.replace("example.org", "example.com"), False),
            ("spiffe://example.org", "spiffe://example.org", True),
            ("spiffe://example.org", WEB, False),
            ("spiffe://example.org/ns/*/sa/web", WEB, True),
            ("spiffe://example.org/ns/*/sa/*", WEB, True),
            ("spiffe://example.org/ns/*", WEB, False),
            ("spiffe://example.org/*", "spiffe://example.org", False),
            ("spiffe://example.org/**", WEB, True),
            ("spiffe://example.org/ns/**", WEB, True),
            ("spiffe://example.org/ns/shop/**", "spiffe://example.org/ns/shop", False),
            ("spiffe://example.org/ns/shop/**", "spiffe://example.org/ns/shopping/a", False),
            ("spiffe://example.org/**", "spiffe://example.org", False),
            ("spiffe://example.org/**", "spiffe://example.org.evil.test/a", False),
            ("spiffe://example.org/a.b", "spiffe://example.org/axb", False),
        ],
    )
    def test_compares_whole_segments(self, pattern: str, text: str, expected: bool) -> None:
        """One star is one segment; two stars are one or more at the end."""
        assert SpiffeIdPattern.parse(pattern).matches(SpiffeId.parse(text)) is expected

    @given(st.lists(st.sampled_from(["a", "b", "ns", "x.y"]), max_size=5))
    def test_of_an_identity_is_that_identity(self, segments: list[str]) -> None:
        """A pattern without stars is exact and fits itself only."""
        text = "/".join(["spiffe://example.org", *segments])
        pattern = SpiffeIdPattern.parse(text)
        assert pattern.is_exact
        assert pattern.matches(SpiffeId.parse(text))
        assert not pattern.matches(SpiffeId.parse(f"{text}/more"))

    @pytest.mark.parametrize("text", ["spiffe://a/*", "spiffe://a/b/**"])
    def test_with_a_star_is_not_exact(self, text: str) -> None:
        """A wildcard names more than one identity."""
        assert not SpiffeIdPattern.parse(text).is_exact
