# SPDX-License-Identifier: Apache-2.0
"""The platform's configuration: what is read, what is refused, and what it answers."""

import json
from datetime import timedelta

import pytest

from kubetls_sdk.exceptions import ConfigurationError
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
