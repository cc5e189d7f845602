# SPDX-License-Identifier: Apache-2.0
"""The promises of a length of time on the command line."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kubetls_sdk.cli.duration import parse_duration


class TestParseDuration:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            pytest.param("90s", timedelta(seconds=90), id="seconds"),
            pytest.param("100ms", timedelta(milliseconds=100), id="milliseconds"),
            pytest.param("1.5m", timedelta(seconds=90), id="fraction"),
            pytest.param("1h30m", timedelta(minutes=90), id="two parts"),
            pytest.param("7d", timedelta(days=7), id="days"),
        ],
    )
    def test_parses(self, text, expected) -> None:
        """Numbers with units add up."""
        assert parse_duration(text) == expected

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "5",
            "s",
            "-5s",
            "0s",
            "5 s",
            "5s ",
            "5s\n",
            "5x",
            "1e3s",
            "\u0665s",
            "999999999d5000000h",
        ],
    )
    def test_refuses(self, text) -> None:
        """Anything else is refused with an example of what is right."""
        with pytest.raises(ValueError, match="expected a"):
            parse_duration(text)
