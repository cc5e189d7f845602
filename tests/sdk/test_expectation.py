# SPDX-License-Identifier: Apache-2.0
"""Whom a connection is meant for: every way to say it, and nobody by default."""

from __future__ import annotations

import pytest

from kubetls_sdk import (
    ConfigurationError,
    PeerUnauthorizedError,
    SpiffeId,
    SpiffeIdError,
    TrustBundleSet,
    TrustDomain,
    verify_svid,
)
from kubetls_sdk.expectation import (
    AnyMember,
    AnyTrusted,
    OneOf,
    ServiceName,
    expected_peer,
    require,
)
from kubetls_sdk.spiffe_id_pattern import SpiffeIdPattern
from kubetls_sdk.testing import DevelopmentCA

OWN = TrustDomain("example.org")
WEB = "spiffe://example.org/ns/shop/sa/web"


def peer_of(domain: str = "example.org", **options):
    """A verified peer of a trust domain."""
    ca = DevelopmentCA(domain)
    svid = ca.issue(**options)
    return verify_svid(svid.chain, bundles=TrustBundleSet([ca.bundle]), now=ca.now)


class TestExpectedPeer:
    """What a user writes becomes an expectation, or an error at construction."""

    @pytest.mark.parametrize(
        "value",
        [
            WEB,
            SpiffeId.parse(WEB),
            SpiffeIdPattern.parse(WEB),
            [WEB],
            {SpiffeId.parse(WEB), "spiffe://example.org/other"},
            "spiffe://example.org/ns/*/sa/web",
            AnyMember(OWN),
            AnyTrusted(),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_takes_every_form(self, value) -> None:
        """One, several, a pattern, or an expectation as it is."""
        assert expected_peer(value).is_met_by(peer_of(), own=OWN)

    @pytest.mark.parametrize(
        "value",
        [None, [], (), set(), "", "web", "*", 7, [7], [None], b"spiffe://a/b", OWN],
        ids=repr,
    )
    def test_refuses_everything_else(self, value) -> None:
        """Nobody expected is a mistake, not everybody."""
        with pytest.raises((ConfigurationError, SpiffeIdError)):
            expected_peer(value)


class TestOneOf:
    """One of several identities or patterns."""

    def test_refuses_others(self) -> None:
        """An identity that fits none of them."""
        expected = expected_peer(["spiffe://example.org/a", "spiffe://example.org/ns/pay/**"])
        assert not expected.is_met_by(peer_of(), own=OWN)
        assert expected.is_met_by(peer_of(path="/ns/pay/sa/web"), own=OWN)
        assert str(expected) == "'spiffe://example.org/a' or 'spiffe://example.org/ns/pay/**'"

    def test_is_never_empty(self) -> None:
        """An empty set would be met by nobody, which nobody wants to say."""
        with pytest.raises(ConfigurationError):
            OneOf(frozenset())


class TestServiceName:
    """A DNS name in a leaf of our own trust domain."""

    @pytest.mark.parametrize("written", ["web.shop.svc", "WEB.Shop.svc", "web.shop.svc."])
    def test_compares_without_case_and_final_dot(self, written: str) -> None:
        """As a resolver reads the name."""
        peer = peer_of(dns_names=["a.shop.svc", "web.shop.svc"])
        assert ServiceName(written).is_met_by(peer, own=OWN)

    @pytest.mark.parametrize(
        "presented",
        [[], ["shop.svc"], ["x.web.shop.svc"], ["*.shop.svc"], ["web.shop.svc."], ["web"]],
        ids=repr,
    )
    def test_needs_exactly_that_name(self, presented) -> None:
        """No wildcard, no parent, no child, and no spelling that a constraint would miss."""
        peer = peer_of(dns_names=presented)
        assert not ServiceName("web.shop.svc").is_met_by(peer, own=OWN)

    def test_is_not_the_common_name(self) -> None:
        """Only subject alternative names count."""
        peer = peer_of(common_name="web.shop.svc")
        assert not ServiceName("web.shop.svc").is_met_by(peer, own=OWN)

    def test_believes_no_partner(self) -> None:
        """A partner's authority may not vouch for our service names."""
        peer = peer_of("partner.example", dns_names=["web.shop.svc"])
        assert not ServiceName("web.shop.svc").is_met_by(peer, own=OWN)

    @pytest.mark.parametrize("name", ["", ".", "..", "*", "*.svc", "w\u00e9b.svc", "\u212a8s.svc"])
    def test_refuses_what_is_no_dns_name(self, name: str) -> None:
        """International names are written in their ASCII form."""
        with pytest.raises(ConfigurationError):
            ServiceName(name)

    def test_says_what_it_wants(self) -> None:
        """In words, for the error."""
        assert str(ServiceName("a.svc")) == "a certificate of our own trust domain for 'a.svc'"


class TestAnyTrusted:
    """Anyone in our bundles: for servers, where a policy decides next."""

    def test_is_met_by_every_verified_peer(self) -> None:
        """A partner too, and it says so."""
        assert AnyTrusted().is_met_by(peer_of("partner.example"), own=OWN)
        assert str(AnyTrusted()) == "any verified workload"


class TestAnyMember:
    """Anyone of one trust domain, written out."""

    def test_is_met_by_that_domain_only(self) -> None:
        """Not by a partner, whoever is asking."""
        expected = AnyMember(OWN)
        assert expected.is_met_by(peer_of(), own=TrustDomain("other.test"))
        assert not expected.is_met_by(peer_of("partner.example"), own=OWN)
        assert str(expected) == "any workload of 'example.org'"


class TestRequire:
    """The step of a handshake that refuses another peer."""

    def test_passes_the_expected_peer(self) -> None:
        """Nothing happens."""
        require(expected_peer(WEB), peer_of(), own=OWN)

    def test_says_whom_it_expected_and_got(self) -> None:
        """Both names are in the error, as text and as attributes."""
        with pytest.raises(PeerUnauthorizedError) as caught:
            require(expected_peer("spiffe://example.org/a"), peer_of(), own=OWN)
        assert str(caught.value.spiffe_id) == WEB
        assert caught.value.expected == "'spiffe://example.org/a'"
        assert caught.value.reason == f"expected 'spiffe://example.org/a', got '{WEB}'"
