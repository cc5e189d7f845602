# SPDX-License-Identifier: Apache-2.0
"""What two lists of patterns of names have in common."""

import itertools

import pytest

from webhook.config import NamePattern
from webhook.zones.name_patterns import common, covers

TEXTS = ("*", "a*", "ab*", "ab", "a", "b", "abc", "b*")
NAMES = ("a", "b", "ab", "abc", "abcd", "ba", "c")


def patterns(*texts):
    return tuple(NamePattern(text) for text in texts)


class TestCovers:
    @pytest.mark.parametrize(
        ("outer", "inner", "expected"),
        [
            ("*", "a", True),
            ("*", "a*", True),
            ("a*", "ab*", True),
            ("a*", "a", True),
            ("ab*", "a*", False),
            ("a", "a*", False),
            ("a", "a", True),
            ("a", "b", False),
        ],
    )
    def test_table(self, outer, inner, expected):
        """A pattern covers another when it matches each of its names."""
        assert covers(NamePattern(outer), NamePattern(inner)) is expected


class TestCommon:
    @pytest.mark.parametrize("first", TEXTS)
    @pytest.mark.parametrize("second", TEXTS)
    def test_as_the_patterns_match(self, first, second):
        """A name is in what is common exactly when both sides match it."""
        found = common(patterns(first), patterns(second), without=())
        for name in NAMES:
            both = NamePattern(first).matches(name) and NamePattern(second).matches(name)
            assert any(each.matches(name) for each in found) is both

    def test_each_once(self):
        """None that another one covers."""
        found = common(patterns("a*", "ab"), patterns("*", "ab*", "ab"), without=())
        assert found == patterns("a*")

    def test_without(self):
        """What earlier rules took is left out."""
        found = common(patterns("*"), patterns("shop", "pay-*"), without=patterns("pay*"))
        assert found == patterns("shop")

    def test_any_order(self):
        """The same names whichever side comes first."""
        for one, other in itertools.combinations(TEXTS, 2):
            there = common(patterns(one), patterns(other), without=())
            assert set(there) == set(common(patterns(other), patterns(one), without=()))
