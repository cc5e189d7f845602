# SPDX-License-Identifier: Apache-2.0
"""SPIFFE IDs and trust domains: what is one, and every way not to be one."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubetls_sdk import SpiffeId, SpiffeIdError, TrustDomain

DOMAIN_CHARACTERS = set("abcdefghijklmnopqrstuvwxyz0123456789._-")
PATH_CHARACTERS = DOMAIN_CHARACTERS | set("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
EVERY_BYTE = [chr(value) for value in range(256)]
NOT_IDS = [
    "",
    "spiffe:",
    "spiffe:/",
    "spiffe://",
    "spiffe:///path",
    "spiffe://example.org/",
    "spiffe://example.org//a",
    "spiffe://example.org/a/",
    "spiffe://example.org/a//b",
    "spiffe://example.org/.",
    "spiffe://example.org/a/..",
    "spiffe://example.org/a/./b",
    "spiffe://example.org/../b",
    "spiffe://example.org/a\n",
    "\nspiffe://example.org/a",
    "spiffe://example.org\n",
    "spiffe://example.org\n/a",
    "spiffe://example.org/a\0",
    "spiffe://example.org/a\0/b",
    "spiffe://example.org/a?b",
    "spiffe://example.org/a#b",
    "spiffe://example.org?a",
    "spiffe://example.org#a",
    "spiffe://example.org/%61",
    "spiffe://example%2eorg/a",
    "spiffe://user@example.org/a",
    "spiffe://example.org:443/a",
    "spiffe://[::1]/a",
    "spiffe://EXAMPLE.org/a",
    "SPIFFE://example.org/a",
    "Spiffe://example.org/a",
    "https://example.org/a",
    "example.org/a",
    " spiffe://example.org/a",
    "spiffe://example.org/a ",
    "spiffe://ex\u00e4mple.org/a",
    "spiffe://xn--exmple-cua.org/\u00e4",
    "spiffe://example.org/\u212aelvin",
    "spiffe://example.org/\uff0fa",
    "spiffe://example.org/\u0661",
    "spiffe://example.org\\a",
    "spiffe://example.org/a;b",
]


class TestTrustDomain:
    """The name of a trust domain is 1 to 255 of a few characters."""

    @pytest.mark.parametrize(
        "name", ["example.org", "a", "1", "10.0.0.1", "a_b", "-x", ".org", "a..b", "x" * 255]
    )
    def test_takes_what_the_standard_takes(self, name: str) -> None:
        """It need not be a DNS name."""
        assert str(TrustDomain.parse(name)) == name
        assert TrustDomain.parse(f"spiffe://{name}") == TrustDomain(name)

    @pytest.mark.parametrize("position", [0, 3, 7], ids=["first", "middle", "last"])
    @pytest.mark.parametrize("character", EVERY_BYTE, ids=lambda c: f"{ord(c):02x}")
    def test_takes_exactly_its_characters(self, character: str, position: int) -> None:
        """Of all 256 byte values, in each position, only a-z, 0-9, dot, dash and underscore."""
        name = "exam.org"[:position] + character + "exam.org"[position + 1 :]
        if character in DOMAIN_CHARACTERS:
            assert TrustDomain(name).name == name
        else:
            with pytest.raises(SpiffeIdError):
                TrustDomain(name)

    @pytest.mark.parametrize(
        "value",
        ["", "x" * 256, "a/b", "a/", "spiffe://", "spiffe://a/b", "spiffe://spiffe://a", "a\n"],
        ids=repr,
    )
    @pytest.mark.parametrize("make", [TrustDomain, TrustDomain.parse], ids=["init", "parse"])
    def test_refuses_other_texts(self, make, value: str) -> None:
        """However it is made, an instance is valid."""
        with pytest.raises(SpiffeIdError):
            make(value)

    @pytest.mark.parametrize("value", [None, b"example.org", 7, ["a"]], ids=repr)
    def test_refuses_what_is_not_text(self, value) -> None:
        """Bytes are not silently decoded."""
        with pytest.raises(SpiffeIdError):
            TrustDomain.parse(value)


class TestSpiffeId:
    """A SPIFFE ID has one spelling, and every instance is valid."""

    @pytest.mark.parametrize(
        ("text", "domain", "path"),
        [
            ("spiffe://example.org", "example.org", ""),
            ("spiffe://example.org/a", "example.org", "/a"),
            ("spiffe://example.org/A/b.c-d_e/9", "example.org", "/A/b.c-d_e/9"),
            ("spiffe://example.org/...", "example.org", "/..."),
            ("spiffe://example.org/.a../..b", "example.org", "/.a../..b"),
            ("spiffe://10.0.0.1/a", "10.0.0.1", "/a"),
        ],
    )
    def test_takes_what_the_standard_takes(self, text: str, domain: str, path: str) -> None:
        """Domain and path are told apart, and the text is given back unchanged."""
        spiffe_id = SpiffeId.parse(text)
        assert (str(spiffe_id.trust_domain), spiffe_id.path) == (domain, path)
        assert str(spiffe_id) == text

    @pytest.mark.parametrize("text", NOT_IDS, ids=ascii)
    def test_refuses_what_it_does_not(self, text: str) -> None:
        """Nothing is repaired: no case, no escape, no white space, no dot segment."""
        with pytest.raises(SpiffeIdError) as caught:
            SpiffeId.parse(text)
        assert caught.value.value == text
        assert caught.value.rule.startswith("expected ")

    @pytest.mark.parametrize("position", [0, 2, 4], ids=["first", "middle", "last"])
    @pytest.mark.parametrize("character", EVERY_BYTE, ids=lambda c: f"{ord(c):02x}")
    def test_takes_exactly_its_characters(self, character: str, position: int) -> None:
        """Of all 256 byte values, in each position of a segment, only the standard's."""
        segment = "admin"[:position] + character + "admin"[position + 1 :]
        text = f"spiffe://example.org/ns/{segment}"
        if character in PATH_CHARACTERS or (character == "/" and position == 2):
            assert str(SpiffeId.parse(text)) == text
        else:
            with pytest.raises(SpiffeIdError):
                SpiffeId.parse(text)

    @pytest.mark.parametrize("position", range(10), ids=lambda n: f"at{n}")
    def test_scheme_is_exact(self, position: int) -> None:
        """No other byte in the scheme or at the end of the domain makes an identity."""
        for character in EVERY_BYTE:
            text = "spiffe://e/a"
            changed = text[:position] + character + text[position + 1 :]
            if changed != text and not (position == 9 and character in DOMAIN_CHARACTERS):
                with pytest.raises(SpiffeIdError):
                    SpiffeId.parse(changed)

    def test_has_at_most_2048_bytes(self) -> None:
        """2,048 bytes are supported, one more is refused, parsed or constructed."""
        head = "spiffe://example.org/"
        longest = head + "a" * (2048 - len(head))
        assert str(SpiffeId.parse(longest)) == longest
        with pytest.raises(SpiffeIdError, match="at most 2048 bytes"):
            SpiffeId.parse(longest + "a")
        with pytest.raises(SpiffeIdError, match="at most 2048 bytes"):
            SpiffeId(TrustDomain("example.org"), longest.removeprefix(head[:-1]) + "a")

    @pytest.mark.parametrize(
        "path", ["a", "/", "/a/", "//", "/a\n", "/..", "/a?b", "a/b", "\n"], ids=repr
    )
    def test_constructor_checks_the_path(self, path: str) -> None:
        """The constructor is no way round the rules."""
        with pytest.raises(SpiffeIdError):
            SpiffeId(TrustDomain("example.org"), path)

    @pytest.mark.parametrize(
        ("domain", "path"), [("example.org", "/a"), (TrustDomain("a"), None), (None, "")]
    )
    def test_constructor_checks_the_types(self, domain, path) -> None:
        """A text is not a trust domain, and None is not an empty path."""
        with pytest.raises(SpiffeIdError):
            SpiffeId(domain, path)

    @pytest.mark.parametrize("value", [None, b"spiffe://example.org/a", 7], ids=repr)
    def test_refuses_what_is_not_text(self, value) -> None:
        """Bytes are not silently decoded."""
        with pytest.raises(SpiffeIdError):
            SpiffeId.parse(value)

    def test_is_a_value(self) -> None:
        """Frozen, hashable, ordered, equal by content; the path keeps its case."""
        one, same = SpiffeId.parse("spiffe://a/x"), SpiffeId.parse("spiffe://a/x")
        other = SpiffeId.parse("spiffe://a/X")
        assert one == same
        assert hash(one) == hash(same)
        assert one != other
        assert sorted([one, other, SpiffeId.parse("spiffe://a")])[0].path == ""
        with pytest.raises(dataclasses.FrozenInstanceError):
            one.path = "/admin"
        assert one != "spiffe://a/x"

    @pytest.mark.parametrize(
        ("path", "namespace", "account"),
        [
            ("/ns/shop/sa/web", "shop", "web"),
            ("/ns/shop", None, None),
            ("/ns/shop/sa/web/x", None, None),
            ("/x/ns/shop/sa/web", None, None),
            ("/NS/shop/sa/web", None, None),
            ("", None, None),
        ],
    )
    def test_knows_the_kubernetes_path(self, path, namespace, account) -> None:
        """Only the exact shape gives a namespace and a service account."""
        spiffe_id = SpiffeId(TrustDomain("example.org"), path)
        assert (spiffe_id.namespace, spiffe_id.service_account) == (namespace, account)

    @given(st.text(max_size=60))
    def test_gives_back_what_it_accepts(self, tail: str) -> None:
        """Whatever is accepted is its own canonical spelling, and ASCII."""
        text = f"spiffe://{tail}"
        try:
            spiffe_id = SpiffeId.parse(text)
        except SpiffeIdError:
            return
        assert str(spiffe_id) == text
        assert text.isascii()
        assert text.isprintable()
