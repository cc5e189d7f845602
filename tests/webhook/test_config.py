# SPDX-License-Identifier: Apache-2.0
"""The platform's configuration: what is read, what is refused, and what it answers."""

import json
from datetime import timedelta

import pytest

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.federation import Endpoint, Profile
from kubetls_sdk.spiffe_id import TrustDomain
from kubetls_sdk.testing import DevelopmentCA
from webhook.config import KeyType, Lifetime, Mode, PlatformConfig
from webhook.config_document import parse_duration

ZONE = "version: 1\nzones: [{name: default, trustDomain: example.org}]\n"


def partner_text(namespaces="[shop]", domain="partner.example"):
    pem = DevelopmentCA(domain).bundle.to_pem().decode()
    lines = "\n".join(f"      {line}" for line in pem.splitlines())
    return (
        f"partners:\n  - name: acme\n    trustDomain: {domain}\n"
        f"    namespaces: {namespaces}\n    bundle: |\n{lines}\n"
    )


def external(signer, *zones):
    pem = DevelopmentCA("example.org").bundle.to_pem().decode()
    first = (
        f"{{name: default, trustDomain: example.org, externalSigner: {signer},"
        f" trustBundle: {json.dumps(pem)}}}"
    )
    return f"version: 1\nzones: [{', '.join([first, *zones])}]"


class TestDefaults:
    def test_the_least_that_must_be_said(self):
        """One zone with its trust domain; no namespace has certificates until a rule names it."""
        config = PlatformConfig.parse(ZONE)
        zone = config.zones["default"]
        assert zone.trust_domain == TrustDomain("example.org")
        assert zone.signer_name == "kubetls.gauntletwizard.net/workload"
        assert zone.propagation == timedelta(minutes=10)
        assert config.cluster_domain == "cluster.local"
        assert config.rule_for("shop") is None

    def test_a_rule(self):
        """A rule that only names namespaces gives the first zone, native certificates and P-256."""
        rule = PlatformConfig.parse(ZONE + "namespaces: [{names: [shop]}]").rule_for("shop")
        assert rule.zones == ("default",)
        assert rule.modes == (Mode.POD_CERTIFICATE,)
        assert rule.key_types == (KeyType.ECDSA_P256,)
        assert rule.lifetime == Lifetime(timedelta(days=1), timedelta(days=1))
        assert rule.mount_paths == ("/run/secrets/workload-spiffe-credentials",)
        assert rule.injects_all
        assert not rule.short_names

    def test_other_zones_have_signers_of_their_own(self):
        """The signer name decides the zone, so no two zones share one."""
        text = ZONE.replace("}]", "}, {name: pci, trustDomain: pci.example.org}]")
        config = PlatformConfig.parse(text)
        assert config.zones["pci"].signer_name == "kubetls.gauntletwizard.net/pci"
        assert config.zone_of_signer("kubetls.gauntletwizard.net/pci").name == "pci"
        assert config.zone_of_signer("example.com/other") is None


class TestNamespaces:
    TEXT = ZONE + (
        "namespaces:\n"
        '  - {names: ["kube-*"], inject: labelled}\n'
        '  - {names: [shop, "pay-*"], modes: [secret], shortNames: true}\n'
        '  - {names: ["*"], lifetime: {default: 2h, maximum: 7d}}\n'
    )

    @pytest.mark.parametrize(
        ("namespace", "line"),
        [
            pytest.param("kube-system", 0, id="start-of-a-name"),
            pytest.param("kube", 2, id="shorter-than-the-start"),
            pytest.param("shop", 1, id="exact"),
            pytest.param("shops", 2, id="longer-than-exact"),
            pytest.param("pay-eu", 1, id="second-pattern"),
        ],
    )
    def test_the_first_rule_that_names_it_decides(self, namespace, line):
        """Later rules are not looked at."""
        config = PlatformConfig.parse(self.TEXT)
        assert config.rule_for(namespace) is config.rules[line]

    @pytest.mark.parametrize(
        ("field", "expected"),
        [
            ("", ("image", "internal")),
            (", trustStores: [internal]", ("internal",)),
            (", trustStores: [internal, image]", ("internal", "image")),
        ],
    )
    def test_trust_stores(self, field, expected):
        """A pod may ask for the zone's; the platform may make it the default, or the only one."""
        config = PlatformConfig.parse(f"{ZONE}namespaces: [{{names: [a]{field}}}]")
        assert config.rules[0].trust_stores == expected

    def test_places_beside_the_trust_store(self):
        """Only a place that would hide the trust store, or be hidden, is refused."""
        config = PlatformConfig.parse(ZONE + "namespaces: [{names: [a], mountPaths: [/etc/ssl/c]}]")
        assert config.rules[0].mount_paths == ("/etc/ssl/c",)

    def test_partners_are_seen_where_the_platform_says(self):
        """A partner's bundle is for the namespaces that it is declared for."""
        config = PlatformConfig.parse(ZONE + partner_text('[shop, "pay-*"]'))
        assert [each.name for each in config.partners_of("pay-eu")] == ["acme"]
        assert config.partners_of("other") == ()
        assert config.partners["acme"].trust_domain == TrustDomain("partner.example")


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("version: 2", "platform.yaml:1: expected version 1"),
            ("version: 1", "expected at least one zone with a trust domain"),
            ("version: 1\nzones: [{name: default}]", "expected a field 'trustDomain'"),
            ("version: 1\nzones: [{name: d, trustDomain: Example.org}]", "trustDomain: expected"),
            ("version: 1\nzones: [{name: D, trustDomain: a.b}]", "expected name to be a DNS label"),
            (ZONE + "more: 1", "platform.yaml:3: unknown field 'more'"),
            (ZONE.replace("}]", ", externalSigner: a.b/c}]"), "externalSigner and trustBundle"),
            (ZONE.replace("}]", ", signerName: kubernetes.io/x}]"), "outside of kubernetes.io"),
            (ZONE.replace("}]", ", signerName: a.kubernetes.io/x}]"), "outside of kubernetes.io"),
            (ZONE.replace("}]", ", signerName: x}]"), "expected signerName to be domain/name"),
            ("version: 1\nzones: [{name: partner, trustDomain: a}]", "bundles of partners"),
            (
                ZONE.replace("}]", ", signerName: kubetls.gauntletwizard.net/partner}]"),
                "bundles of partners",
            ),
            (external("kubernetes.io/kube-apiserver-client"), "outside of kubernetes.io"),
            (external("a.b/own", "{name: b, trustDomain: b, signerName: a.b/own}"), "of our own"),
            ("version: 1\nzones: [{name: d, trustDomain: a_b}]", "a DNS name of at most 63"),
            (f"version: 1\nzones: [{{name: d, trustDomain: {'a.' * 31}ab}}]", "at most 63"),
            (ZONE.replace("}]", "}, {name: b, trustDomain: example.org}]"), "in one zone"),
            (ZONE.replace("}]", "}, {name: default, trustDomain: a.b}]"), "each name of zones"),
            (ZONE + "namespaces: [{names: []}]", "expected names to have at least one value"),
            (ZONE + "namespaces: [{names: ['a*b']}]", "or the start of one with a final"),
            (ZONE + "namespaces: [{names: [Shop]}]", "expected a namespace"),
            (ZONE + "namespaces: [{names: [a], zones: [b]}]", "expected a configured zone"),
            (ZONE + "namespaces: [{names: [a], modes: [b]}]", "modes: expected one of pod-cert"),
            (ZONE + "namespaces: [{names: [a], keyTypes: [RSA1024]}]", "keyTypes: expected one"),
            (ZONE + "namespaces: [{names: [a], mountPaths: [x]}]", "expected an absolute path"),
            (ZONE + "namespaces: [{names: [a], mountPaths: [/a/../b]}]", "an absolute path"),
            (ZONE + "namespaces: [{names: [a], trustStores: [web]}]", "expected one of image, int"),
            (ZONE + "namespaces: [{names: [a], mountPaths: [/etc/ssl]}]", "apart from /etc/ssl/ce"),
            (ZONE + "namespaces: [{names: [a], mountPaths: [/etc/ssl/certs/x]}]", "apart from"),
            (ZONE + "namespaces: [{names: [a], inject: some}]", "inject of all or labelled"),
            (ZONE + "namespaces: [{names: [a], lifetime: {default: 59m}}]", "from 1h to 91d"),
            (
                ZONE + "namespaces: [{names: [a], lifetime: {default: 2h, maximum: 1h}}]",
                "the default within the maximum",
            ),
            (ZONE + "clusterDomain: .local", "expected clusterDomain to be a DNS name"),
            (ZONE + partner_text(domain="example.org"), "in one zone or partner only"),
            ("zones: [", "expected YAML"),
        ],
    )
    def test_the_message_names_the_field(self, text, message):
        """One clause, with file and line."""
        with pytest.raises(ConfigurationError, match=r"platform\.yaml:[0-9]") as caught:
            PlatformConfig.parse(text)
        assert message in str(caught.value)

    def test_a_partner_without_authorities(self):
        """A bundle that trusts nobody is not a partner."""
        text = "partners: [{name: a, trustDomain: a.b, namespaces: [c], bundle: '  '}]"
        with pytest.raises(ConfigurationError, match="bundle"):
            PlatformConfig.parse(ZONE + text)


PARTNER_CA = DevelopmentCA("partner.example")
PEM = json.dumps(PARTNER_CA.bundle.to_pem().decode())
WEB = "{url: 'https://a.example/b', profile: https_web, webRoots: true}"
SPIFFE = (
    "{url: 'https://10.0.0.7:8443/', profile: https_spiffe,"
    f" spiffeId: 'spiffe://partner.example/bundles', bootstrap: {PEM}}}"
)


def fetched(endpoint=WEB, more="", *others):
    """A partner with an endpoint, and others."""
    entry = f"{{name: acme, trustDomain: partner.example, namespaces: [shop], endpoint: {endpoint}"
    return f"{ZONE}partners: [{', '.join([entry + more + '}', *others])}]"


def federated(text):
    return PlatformConfig.parse(text).partners["acme"].federated


class TestEndpoint:
    def test_web(self):
        """The web's roots vouch for the server, when that is written down; times have defaults."""
        found = federated(fetched())
        assert found.trust_domain == PARTNER_CA.trust_domain
        assert found.endpoint == Endpoint(url="https://a.example/b", profile=Profile.WEB)
        assert found.bundle is None
        times = (found.min_refresh_seconds, found.max_refresh_seconds, found.max_stale_seconds)
        assert times == (60, 3600, 86400)

    def test_own_roots(self):
        """Other roots may vouch for it instead."""
        found = federated(fetched(WEB.replace("webRoots: true", f"roots: {PEM}")))
        assert found.endpoint.roots == json.loads(PEM)

    def test_spiffe(self):
        """The server proves its SPIFFE ID by the bundle of its own trust domain."""
        found = federated(fetched(SPIFFE))
        assert str(found.endpoint.spiffe_id) == "spiffe://partner.example/bundles"
        assert found.bundle == PARTNER_CA.bundle

    def test_server_of_another_partner(self):
        """The bundle of another partner verifies the server, and may be fetched itself."""
        other = DevelopmentCA("other.example").bundle.to_pem().decode()
        endpoint = (
            "{url: 'https://b/', profile: https_spiffe, spiffeId: 'spiffe://other.example/b'}"
        )
        text = fetched(
            endpoint,
            "",
            f"{{name: other, trustDomain: other.example, namespaces: [x],"
            f" bundle: {json.dumps(other)}}}",
        )
        partner = PlatformConfig.parse(text).partners["acme"]
        assert partner.federated.bundle is None
        assert partner.server_domain == TrustDomain("other.example")

    def test_times(self):
        """How often to ask, within bounds, and how long an answer is good."""
        more = ", refresh: {minimum: 5s, maximum: 2h}, maximumAge: 3d"
        found = federated(fetched(WEB, more))
        times = (found.min_refresh_seconds, found.max_refresh_seconds, found.max_stale_seconds)
        assert times == (5, 7200, 3 * 86400)

    def test_equal_texts_are_equal_configurations(self):
        """What has not changed is not told as a change."""
        text = fetched(SPIFFE)
        assert PlatformConfig.parse(text) == PlatformConfig.parse(text)
        assert hash(PlatformConfig.parse(text).partners["acme"])

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param(fetched(WEB, f", bundle: {PEM}"), "one of bundle, endpoint", id="both"),
            pytest.param(
                ZONE + "partners: [{name: a, trustDomain: a.b, namespaces: [c]}]",
                "platform.yaml:3: expected one of bundle, endpoint and zone",
                id="neither",
            ),
            pytest.param(
                fetched().replace("trustDomain: partner.example, ", ""),
                "expected a field 'trustDomain'",
                id="no trust domain",
            ),
            pytest.param(
                fetched().replace("partner.example", "example.org"),
                "in one zone or partner only",
                id="our own trust domain",
            ),
            pytest.param(
                fetched().replace("}]\n", "}, {name: z, trustDomain: partner.example}]\n", 1),
                "in one zone or partner only",
                id="another zone's",
            ),
            pytest.param(
                fetched(
                    WEB,
                    "",
                    f"{{name: b, trustDomain: partner.example, endpoint: {WEB}, namespaces: [x]}}",
                ),
                "in one zone or partner only",
                id="two partners of one",
            ),
            pytest.param(fetched("[]"), "at least one value", id="no endpoint"),
            pytest.param(fetched(f"[{WEB}, {WEB}]"), "expected one endpoint", id="two"),
            pytest.param(fetched(WEB.replace("https://", "http://")), "https URL", id="http"),
            pytest.param(fetched(WEB.replace("//a", "//u:p@a")), "without credentials", id="user"),
            pytest.param(
                fetched(WEB.replace("_web", "")), "expected https_web or https_spiffe", id="profile"
            ),
            pytest.param(
                fetched("{url: 'https://a/'}"), "expected a field 'profile'", id="no profile"
            ),
            pytest.param(
                fetched(WEB.replace(", webRoots: true", "")), "webRoots: true or roots", id="no one"
            ),
            pytest.param(
                fetched(WEB.replace("true", "false")), "webRoots: true or roots", id="no web roots"
            ),
            pytest.param(
                fetched(WEB.replace("true", f"true, roots: {PEM}")),
                "webRoots: true or roots",
                id="both kinds of roots",
            ),
            pytest.param(
                fetched(WEB.replace("webRoots: true", "roots: x")),
                "roots to be PEM certificates",
                id="roots that are none",
            ),
            pytest.param(
                fetched(WEB.replace("true", "true, spiffeId: 'spiffe://a/b'")),
                "spiffeId with https_spiffe only",
                id="web with a SPIFFE ID",
            ),
            pytest.param(
                fetched(WEB.replace("true", f"true, bootstrap: {PEM}")),
                "bootstrap with https_spiffe only",
                id="web with a bundle",
            ),
            pytest.param(
                fetched(SPIFFE.replace("}", ", webRoots: true}")),
                "webRoots with https_web only",
                id="spiffe with web roots",
            ),
            pytest.param(
                fetched(SPIFFE.replace(", spiffeId: 'spiffe://partner.example/bundles'", "")),
                "expected the SPIFFE ID of the server",
                id="spiffe without ID",
            ),
            pytest.param(
                fetched(SPIFFE.replace("example/bundles", "example")),
                "expected the SPIFFE ID of the server",
                id="ID without path",
            ),
            pytest.param(
                fetched(SPIFFE.replace(f", bootstrap: {PEM}", "")),
                "expected bootstrap",
                id="no bootstrap",
            ),
            pytest.param(
                fetched(SPIFFE.replace("partner.example/b", "other.example/b")),
                "and only there",
                id="bootstrap of nobody",
            ),
            pytest.param(
                fetched("{url: 'https://a/', profile: https_spiffe, spiffeId: 'spiffe://o/b'}"),
                "expected a partner of the trust domain of its spiffeId",
                id="server of a stranger",
            ),
            pytest.param(
                fetched(
                    "{url: 'https://a/', profile: https_spiffe, spiffeId: 'spiffe://example.org/b'}"
                ),
                "expected a partner of the trust domain of its spiffeId",
                id="server of ours",
            ),
            pytest.param(fetched(WEB, ", refresh: {}"), "minimum or maximum", id="empty refresh"),
            pytest.param(
                fetched(WEB, ", refresh: {minimum: 2h}"),
                "expected refresh.minimum up to refresh.maximum",
                id="turned round",
            ),
            pytest.param(
                fetched(WEB, ", maximumAge: 2m"),
                "expected maximumAge to be 3 refresh.minimum or more",
                id="too young",
            ),
            pytest.param(fetched(WEB, ", maximumAge: 1.5h"), "a duration such as", id="duration"),
            pytest.param(
                ZONE + partner_text() + "    maximumAge: 1h\n",
                "expected maximumAge beside an endpoint",
                id="age of a bundle",
            ),
            pytest.param(
                ZONE
                + partner_text(domain="a.example").replace("trustDomain: a.e", "trustDomain: b.e"),
                "expected authorities of 'spiffe://b.example'",
                id="bundle of another domain",
            ),
            pytest.param(
                fetched(SPIFFE.replace("partner.example/", "x.example/")).replace(
                    "trustDomain: partner.example", "trustDomain: x.example"
                ),
                "expected authorities of 'spiffe://x.example'",
                id="bootstrap of another domain",
            ),
        ],
    )
    def test_refused(self, text, message):
        """What would be ignored, or trusted by mistake, is an error with file and line."""
        with pytest.raises(ConfigurationError, match=r"platform\.yaml:[0-9]") as caught:
            PlatformConfig.parse(text)
        assert message in str(caught.value)


class TestZoneAsPartner:
    ZONES = (
        "version: 1\nzones: [{name: default, trustDomain: example.org},"
        " {name: pci, trustDomain: pci.example}]\n"
    )

    def config(self, *partners):
        return PlatformConfig.parse(f"{self.ZONES}partners: [{', '.join(partners)}]")

    def test_it_is_the_zone(self):
        """Its trust domain and signer are the zone's; nothing of it is published anew."""
        config = self.config("{name: card, zone: pci, namespaces: [shop]}")
        card, pci = config.partners["card"], config.zones["pci"]
        assert (card.trust_domain, card.zone) == (pci.trust_domain, pci)
        assert card.signer_name == pci.signer_name
        assert card.labels["kubetls.gauntletwizard.net/partner"] == "card"
        assert config.outside == {}
        assert config.partner_that_is(pci) == card
        assert config.partner_that_is(config.zones["default"]) is None
        assert config.partners_of("shop") == (card,)
        assert config.partners_of("lab") == ()

    @pytest.mark.parametrize(
        ("partners", "message"),
        [
            pytest.param(
                ["{name: a, zone: none, namespaces: [x]}"],
                "one of default, pci, got 'none'",
                id="unknown",
            ),
            pytest.param(
                ["{name: a, zone: pci, trustDomain: pci.example, namespaces: [x]}"],
                "expected no trustDomain beside zone",
                id="trust domain",
            ),
            pytest.param(
                ["{name: a, zone: pci, bundle: x, namespaces: [x]}"], "one of bundle", id="bundle"
            ),
            pytest.param(
                ["{name: a, zone: pci, maximumAge: 1h, namespaces: [x]}"],
                "expected no maximumAge beside zone",
                id="age",
            ),
            pytest.param(
                ["{name: a, zone: pci, namespaces: [x]}", "{name: b, zone: pci, namespaces: [y]}"],
                "expected zone 'pci' as one partner only",
                id="twice",
            ),
            pytest.param(["{name: a, zone: pci}"], "expected a field 'namespaces'", id="nowhere"),
        ],
    )
    def test_refused(self, partners, message):
        """What contradicts itself is an error with file and line."""
        with pytest.raises(ConfigurationError, match=r"platform\.yaml:[0-9]") as caught:
            self.config(*partners)
        assert message in str(caught.value)

    def test_no_endpoint_is_verified_with_it(self):
        """A partner's server is verified with a partner's bundle, never with a zone's of ours."""
        endpoint = "{url: 'https://a/', profile: https_spiffe, spiffeId: 'spiffe://pci.example/b'}"
        with pytest.raises(ConfigurationError, match="of its spiffeId"):
            self.config(
                "{name: card, zone: pci, namespaces: [x]}",
                f"{{name: a, trustDomain: a.example, namespaces: [x], endpoint: {endpoint}}}",
            )


class TestParseDuration:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("30s", timedelta(seconds=30)),
            ("90m", timedelta(minutes=90)),
            ("24h", timedelta(hours=24)),
            ("7d", timedelta(days=7)),
        ],
    )
    def test_a_number_and_a_unit(self, text, expected):
        """Seconds, minutes, hours and days."""
        assert parse_duration(text) == expected

    @pytest.mark.parametrize("text", ["", "24", "0h", "-1h", "1.5h", "1h30m", "24H", "1h\n", "٢h"])
    def test_anything_else(self, text):
        """Nothing is guessed."""
        with pytest.raises(ConfigurationError, match="expected a duration"):
            parse_duration(text)
