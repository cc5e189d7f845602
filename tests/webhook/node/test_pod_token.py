# SPDX-License-Identifier: Apache-2.0
"""When a pod's token is worth a request."""

from __future__ import annotations

import base64
import json

import pytest

from webhook.node.pod_token import PodToken

NOW = 1_800_000_000.0


def jwt(claims):
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{middle}.c2ln"


class TestReceived:
    def test_expiry(self):
        """It ends when it says so."""
        token = PodToken.received(jwt({"exp": NOW + 100}), NOW)
        assert token.is_good_at(NOW + 90)
        assert not token.is_good_at(NOW + 96)

    def test_clock_that_is_ahead(self):
        """What the kubelet has just brought is tried, though our clock says that it has ended."""
        token = PodToken.received(jwt({"exp": NOW - 3600}), NOW)
        assert token.is_good_at(NOW + 50)
        assert not token.is_good_at(NOW + 56)

    @pytest.mark.parametrize(
        "text",
        [
            "opaque",
            "a.b.c",
            "e30.e30.c2ln",
            jwt(["exp"]),
            jwt({"exp": "tomorrow"}),
            jwt({"exp": True}),
            jwt({"exp": None}),
            "e30.ÄÄ.c2ln",
            f"e30.{base64.urlsafe_b64encode(b'[' * 100000).decode()}.c2ln",
            jwt({"exp": 10**400}),
            jwt({"exp": float("inf")}),
            jwt({"exp": float("nan")}),
        ],
        ids=[
            *("opaque", "no base64", "empty", "list", "text", "true", "null", "no ASCII", "deep"),
            *("more than a float", "infinite", "not a number"),
        ],
    )
    def test_one_that_says_nothing(self, text):
        """One that we cannot read is good for as long as those that CSIDriver asks for."""
        token = PodToken.received(text, NOW)
        assert token.is_good_at(NOW + 590)
        assert not token.is_good_at(NOW + 600)

    def test_repr(self):
        """It is not shown."""
        assert "opaque" not in repr(PodToken.received("opaque", NOW))
