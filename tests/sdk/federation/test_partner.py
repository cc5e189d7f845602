# SPDX-License-Identifier: Apache-2.0
"""What may be declared about a partner, and how often its bundle is fetched."""

from __future__ import annotations

import pytest

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.federation import Endpoint, Partner, Profile
from kubetls_sdk.spiffe_id import SpiffeId, TrustDomain
from kubetls_sdk.testing import DevelopmentCA

DOMAIN = TrustDomain("partner.example")
SERVER = SpiffeId.parse("spiffe://partner.example/bundles")
URL = "https://bundles.partner.example/"
ROOTS = DevelopmentCA("web.example").bundle.to_pem().decode()
WEB = Endpoint(url=URL, profile=Profile.WEB)


class TestEndpoint:
    @pytest.mark.parametrize(
        "options",
        [
            pytest.param({"profile": "https_web"}, id="web"),
            pytest.param({"profile": "https_web", "ca_file": "roots.pem"}, id="own roots"),
            pytest.param({"profile": "https_web", "roots": ROOTS}, id="own roots as text"),
            pytest.param({"profile": "https_spiffe", "spiffe_id": SERVER}, id="spiffe"),
        ],
    )
    def test_profiles(self, options):
        """Both profiles of the standard, each with what it authenticates by."""
        assert Endpoint(url=URL, **options).profile in tuple(Profile)

    @pytest.mark.parametrize(
        "options",
        [
            pytest.param({"profile": "https"}, id="no profile"),
            pytest.param({"profile": "https_spiffe"}, id="spiffe without an ID"),
            pytest.param(
                {"profile": "https_spiffe", "spiffe_id": SpiffeId(DOMAIN)}, id="an ID without path"
            ),
            pytest.param(
                {"profile": "https_spiffe", "spiffe_id": SERVER, "ca_file": "x"}, id="both"
            ),
            pytest.param({"profile": "https_web", "spiffe_id": SERVER}, id="web with an ID"),
            pytest.param(
                {"profile": "https_spiffe", "spiffe_id": SERVER, "roots": ROOTS}, id="spiffe, roots"
            ),
            pytest.param(
                {"profile": "https_web", "ca_file": "x", "roots": ROOTS}, id="roots twice"
            ),
            pytest.param({"profile": "https_web", "roots": "x"}, id="roots that are none"),
            pytest.param({"profile": "https_web", "roots": ""}, id="empty roots"),
        ],
    )
    def test_misfits(self, options):
        """What does not fit the profile is refused, never ignored."""
        with pytest.raises(ConfigurationError):
            Endpoint(url=URL, **options)

    @pytest.mark.parametrize(
        "url",
        [
            "http://a/",
            "https://",
            "https://u@a/",
            "https://u:p@a/",
            "a",
            "https://a/#f",
            "https://a b/",
        ],
    )
    def test_url(self, url):
        """An endpoint is https, without credentials."""
        with pytest.raises(ConfigurationError, match="bundle endpoint"):
            Endpoint(url=url, profile=Profile.WEB)


class TestPartner:
    def test_nothing(self):
        """A partner has a bundle or an endpoint."""
        with pytest.raises(ConfigurationError, match="got none"):
            Partner(trust_domain=DOMAIN)

    def test_bootstrap(self):
        """A server of the partner's own domain is verified by a bundle that we have before."""
        endpoint = Endpoint(url=URL, profile=Profile.SPIFFE, spiffe_id=SERVER)
        assert Partner(trust_domain=DOMAIN, endpoint=endpoint, bundle="b.pem").is_self_serving
        with pytest.raises(ConfigurationError, match="first fetch"):
            Partner(trust_domain=DOMAIN, endpoint=endpoint)

    @pytest.mark.parametrize(
        "endpoint",
        [
            WEB,
            Endpoint(
                url=URL, profile=Profile.SPIFFE, spiffe_id=SpiffeId.parse("spiffe://else.example/b")
            ),
        ],
        ids=["web", "of another domain"],
    )
    def test_useless_bundle(self, endpoint):
        """Where a bundle would verify nothing it is refused: somebody meant something by it."""
        with pytest.raises(ConfigurationError, match="none beside any other"):
            Partner(trust_domain=DOMAIN, endpoint=endpoint, bundle="b.pem")

    def test_bundle_of_another_domain(self):
        """A bundle that is given as such is the partner's own."""
        bundle = DevelopmentCA("else.example").bundle
        with pytest.raises(ConfigurationError, match="got one of 'else"):
            Partner(trust_domain=DOMAIN, bundle=bundle)

    @pytest.mark.parametrize(
        "options",
        [
            {"min_refresh_seconds": 0},
            {"min_refresh_seconds": 100, "max_refresh_seconds": 99},
            {"min_refresh_seconds": 100, "max_stale_seconds": 299},
            {"timeout_seconds": 0},
            {"timeout_seconds": 61},
        ],
    )
    def test_times(self, options):
        """Times are within bounds."""
        with pytest.raises(ConfigurationError):
            Partner(trust_domain=DOMAIN, endpoint=WEB, **options)

    @pytest.mark.parametrize(
        ("hint", "options", "expected"),
        [
            pytest.param(None, {}, 300, id="five minutes by default"),
            pytest.param(600, {}, 600, id="as hinted"),
            pytest.param(0, {}, 60, id="not at will"),
            pytest.param(2_419_200, {}, 3600, id="not once a month"),
            pytest.param(2**62, {"max_refresh_seconds": 7200}, 7200, id="configured bound"),
            pytest.param(3600, {"max_stale_seconds": 900}, 300, id="before it is stale"),
            pytest.param(1, {"min_refresh_seconds": 5}, 5, id="configured floor"),
        ],
    )
    def test_refresh(self, hint, options, expected):
        """The hint of the bundle decides, within our bounds."""
        assert (
            Partner(trust_domain=DOMAIN, endpoint=WEB, **options).refresh_seconds(hint) == expected
        )
