# SPDX-License-Identifier: Apache-2.0
"""Where the token of a request is: exactly one field."""

from __future__ import annotations

import pytest

from kubetls_sdk.users import TokenRefused
from kubetls_sdk.users.bearer import find_token

AUTHORIZATION = b"authorization"


def find(*values, name=AUTHORIZATION, field=AUTHORIZATION):
    return find_token([(b"host", b"a"), *((field, each) for each in values)], name, 100)


class TestFindToken:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            pytest.param(b"Bearer abc", b"abc", id="Bearer"),
            pytest.param(b"bEARER abc", b"abc", id="any case"),
            pytest.param(b"Bearer   abc", b"abc", id="several spaces"),
            pytest.param(b"Basic dXNlcg==", None, id="Basic"),
            pytest.param(b"DPoP abc", None, id="DPoP"),
            pytest.param(b"Bearerabc", None, id="another scheme that begins alike"),
            pytest.param(b"", None, id="empty"),
            pytest.param(b"abc", None, id="the token alone"),
            pytest.param(b"Bearer abc, Bearer def", b"abc, Bearer def", id="two in one: no token"),
        ],
    )
    def test_authorization(self, value, expected):
        """The credentials of the scheme Bearer, and no other, are a token."""
        assert find(value) == expected

    @pytest.mark.parametrize("value", [b"Bearer", b"Bearer ", b"bearer   "])
    def test_nothing_after_the_scheme(self, value):
        """Who says Bearer without a token is refused, not anonymous."""
        assert isinstance(find(value), TokenRefused)

    @pytest.mark.parametrize(
        "values",
        [(b"Bearer a", b"Bearer b"), (b"Bearer a", b"Bearer a"), (b"Basic a", b"Bearer b")],
        ids=["two tokens", "twice the same", "two schemes"],
    )
    def test_several(self, values):
        """Several fields are refused: another reader might take the other one."""
        assert isinstance(find(*values), TokenRefused)

    def test_several_in_other_case(self):
        """The name counts in any case."""
        headers = [(b"Authorization", b"Bearer a"), (b"authorization", b"Bearer b")]
        assert isinstance(find_token(headers, AUTHORIZATION, 100), TokenRefused)

    def test_absent(self):
        """No field is no token."""
        assert find() is None

    def test_other_field(self):
        """A field of its own holds the token alone; Authorization is then not looked at."""
        assert find(b"abc", name=b"x-user-token", field=b"x-user-token") == b"abc"
        assert find(b"Bearer abc", name=b"x-user-token") is None
        assert isinstance(find(b"", name=b"x-user-token", field=b"x-user-token"), TokenRefused)

    def test_length(self):
        """A token may be as long as is allowed, and not longer."""
        assert find(b"Bearer " + b"a" * 100) == b"a" * 100
        assert isinstance(find(b"Bearer " + b"a" * 101), TokenRefused)
