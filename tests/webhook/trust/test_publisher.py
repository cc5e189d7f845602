# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.spiffe_id import TrustDomain
from kubetls_sdk.testing import DevelopmentCA
from tests.webhook.api_double import ApiDouble
from tests.webhook.trust.world import BUNDLE, SIGNER, START
from webhook.api.errors import AlreadyExistsError, ConflictError
from webhook.api.resources import (
    CLUSTER_TRUST_BUNDLES,
    CLUSTER_TRUST_BUNDLES_V1BETA1,
    CONFIG_MAPS,
)
from webhook.config import NamePattern, Partner, PlatformConfig, Zone
from webhook.names import TRUST_DOMAIN_LABEL, bundle_name
from webhook.trust.publication import MAX_BYTES, Publication, of_partner, of_zone, wanted_names
from webhook.trust.publisher import ConfigMapPublisher, TrustBundlePublisher, find_publisher

pytestmark = pytest.mark.anyio

DOMAIN = TrustDomain.parse("example.org")
ZONE = Zone("default", DOMAIN, SIGNER)
CA = DevelopmentCA("example.org", now=START)
PARTNER_CA = DevelopmentCA("partner.example", now=START)
PARTNER = Partner(
    name="acme",
    trust_domain=PARTNER_CA.trust_domain,
    namespaces=(NamePattern("*"),),
    bundle=PARTNER_CA.bundle,
)
PARTNER_BUNDLE = "kubetls.gauntletwizard.net:partner:acme"
PARTNER_SIGNER = "kubetls.gauntletwizard.net/partner"


@pytest.fixture
def api():
    return ApiDouble()


@pytest.fixture
def publisher(api):
    return TrustBundlePublisher(api)


async def publish(publisher, publication):
    found = await publisher.read(publication.name, publication.fallback)
    return await publisher.publish(publication, found)


def config(*partners):
    return PlatformConfig({"default": ZONE}, (), {each.name: each for each in partners})


def bundle_of(name, text="x", signer=SIGNER, labels=None):
    metadata = {"name": name, "labels": labels or {}}
    return {"metadata": metadata, "spec": {"signerName": signer, "trustBundle": text}}


class TestPublication:
    def test_a_zone_s_bundle_is_selected_by_signer_and_trust_domain(self):
        """Name, signer and label are those that pods' volumes ask for."""
        found = of_zone(ZONE, CA.bundle)
        assert (found.name, found.signer_name) == (BUNDLE, SIGNER)
        assert found.labels["kubetls.gauntletwizard.net/trust-domain"] == "example.org"

    def test_no_selector_of_ours_matches_a_partner_s(self):
        """It is of another signer, and has no label with a trust domain."""
        found = of_partner(PARTNER, PARTNER_CA.bundle)
        assert (found.name, found.signer_name) == (PARTNER_BUNDLE, PARTNER_SIGNER)
        assert "kubetls.gauntletwizard.net/trust-domain" not in found.labels

    def test_the_same_authorities_are_the_same_text(self):
        """Whatever the order that they came in."""
        ca = DevelopmentCA("example.org", now=START)
        ca.add_root()
        one, other = ca.bundle.authorities
        texts = {
            of_zone(ZONE, TrustBundle(DOMAIN, order)).text
            for order in ((one, other), (other, one), (one, other, one))
        }
        assert len(texts) == 1

    def test_an_empty_bundle_is_none(self):
        """Nothing may ever be published empty."""
        with pytest.raises(ConfigurationError, match="never published empty"):
            of_zone(ZONE, TrustBundle(DOMAIN, ()))

    def test_a_bundle_belongs_to_its_zone_s_domain(self):
        """Another domain's authorities would mint our names."""
        with pytest.raises(ConfigurationError, match=r"authorities of 'example\.org'"):
            of_zone(ZONE, PARTNER_CA.bundle)

    @pytest.mark.parametrize(
        ("domain", "problem"),
        [
            pytest.param("a_b.example", "a name that a bundle can have", id="underscore"),
            pytest.param("a" * 64, "a name that a bundle can have", id="long label"),
            pytest.param(".".join(["a" * 40] * 2), "a value that a label can have", id="long"),
        ],
    )
    def test_a_trust_domain_that_the_api_server_cannot_name_is_refused(self, domain, problem):
        """SPIFFE allows more than Kubernetes."""
        ca = DevelopmentCA(domain, now=START)
        name = bundle_name(SIGNER, ca.trust_domain)
        with pytest.raises(ConfigurationError, match=problem):
            Publication(name, SIGNER, "file", {TRUST_DOMAIN_LABEL: domain}, ca.bundle)

    def test_a_bundle_of_more_than_a_mebibyte_is_refused(self):
        """The API server takes no more."""
        good = of_zone(ZONE, CA.bundle)

        class Large:
            authorities = CA.bundle.authorities

            def to_pem(self):
                return b"x" * (MAX_BYTES + 1)

        with pytest.raises(ConfigurationError, match="at most 1048576 bytes"):
            Publication(good.name, SIGNER, good.key, good.labels, Large())


class TestPublish:
    async def test_what_is_missing_is_made(self, api, publisher):
        """With name, signer and labels."""
        assert await publish(publisher, of_zone(ZONE, CA.bundle))
        body = api.find(CLUSTER_TRUST_BUNDLES, BUNDLE)
        assert body["spec"] == {
            "signerName": SIGNER,
            "trustBundle": CA.bundle.to_pem().decode(),
        }
        assert not await publish(publisher, of_zone(ZONE, CA.bundle))

    @pytest.mark.parametrize(
        "edit",
        [
            pytest.param(lambda body: body["spec"].update(trustBundle=""), id="text"),
            pytest.param(
                lambda body: body["spec"].update(trustBundle=PARTNER_CA.bundle.to_pem().decode()),
                id="another's authority",
            ),
            pytest.param(lambda body: body["metadata"].update(labels={}), id="labels"),
        ],
    )
    async def test_edits_of_others_are_reverted(self, api, publisher, edit):
        """Text and our labels."""
        await publish(publisher, of_zone(ZONE, CA.bundle))
        right = api.find(CLUSTER_TRUST_BUNDLES, BUNDLE)
        body = api.find(CLUSTER_TRUST_BUNDLES, BUNDLE)
        edit(body)
        api.put(CLUSTER_TRUST_BUNDLES, body)
        assert await publish(publisher, of_zone(ZONE, CA.bundle))
        now = api.find(CLUSTER_TRUST_BUNDLES, BUNDLE)
        assert now["spec"] == right["spec"]
        assert now["metadata"]["labels"] == right["metadata"]["labels"]

    async def test_labels_of_others_stay(self, api, publisher):
        """They may be somebody's selector."""
        await publish(publisher, of_zone(ZONE, CA.bundle))
        body = api.find(CLUSTER_TRUST_BUNDLES, BUNDLE)
        body["metadata"]["labels"]["team"] = "blue"
        api.put(CLUSTER_TRUST_BUNDLES, body)
        assert not await publish(publisher, of_zone(ZONE, CA.bundle))

    async def test_a_write_names_the_version_that_was_read(self, api, publisher):
        """Who was quicker is not overwritten."""
        publication = of_zone(ZONE, CA.bundle)
        assert await publish(publisher, publication)
        api.put(CLUSTER_TRUST_BUNDLES, bundle_of(BUNDLE))
        found = await publisher.read(BUNDLE)
        api.put(CLUSTER_TRUST_BUNDLES, bundle_of(BUNDLE, "y"))
        with pytest.raises(ConflictError):
            await publisher.publish(publication, found)
        with pytest.raises(AlreadyExistsError):
            await publisher.publish(publication, None)


class TestRead:
    async def test_a_text_that_is_no_bundle_has_no_anchors(self, api, publisher):
        """Somebody's edit proves no publication."""
        api.put(CLUSTER_TRUST_BUNDLES, bundle_of(BUNDLE, "-----BEGIN CERTIFICATE-----"))
        assert (await publisher.read(BUNDLE)).anchors(DOMAIN) == frozenset()


class TestSweep:
    async def names(self, api, publisher, *partners):
        await publisher.sweep(config(*partners))
        return {body["metadata"]["name"] for body in api.all(CLUSTER_TRUST_BUNDLES)}

    async def test_a_partner_that_left_the_configuration_is_gone_at_once(self, api, publisher):
        """Its bundle with it."""
        await publish(publisher, of_zone(ZONE, CA.bundle))
        await publish(publisher, of_partner(PARTNER, PARTNER_CA.bundle))
        assert await self.names(api, publisher, PARTNER) == {BUNDLE, PARTNER_BUNDLE}
        assert await self.names(api, publisher) == {BUNDLE}

    async def test_what_others_publish_under_our_signers_is_removed(self, api, publisher):
        """Every pod of the zone would trust it."""
        api.put(CLUSTER_TRUST_BUNDLES, bundle_of("kubetls.gauntletwizard.net:workload:evil"))
        api.put(
            CLUSTER_TRUST_BUNDLES,
            bundle_of("kubetls.gauntletwizard.net:partner:evil", signer=PARTNER_SIGNER),
        )
        assert await self.names(api, publisher) == set()

    async def test_bundles_of_other_signers_are_nobody_s_business(self, api, publisher):
        """Whatever they are called."""
        api.put(CLUSTER_TRUST_BUNDLES, bundle_of("other.example:a:b", signer="other.example/a"))
        assert await self.names(api, publisher) == {"other.example:a:b"}

    async def test_a_zone_whose_pool_cannot_be_read_keeps_its_bundle(self, api, publisher):
        """What is wanted is read from the configuration, not from what could be made."""
        await publish(publisher, of_zone(ZONE, CA.bundle))
        assert await self.names(api, publisher) == {BUNDLE}
        assert wanted_names(config(PARTNER)) == {BUNDLE, PARTNER_BUNDLE}

    def test_a_zone_as_partner(self):
        """What is published already is not published under a partner's name."""
        text = (
            "version: 1\nzones: [{name: default, trustDomain: example.org}]\n"
            "partners: [{name: main, zone: default, namespaces: [x]}]\n"
        )
        assert wanted_names(PlatformConfig.parse(text)) == {BUNDLE}


class TestOldClusters:
    async def test_the_newest_version_that_is_served_is_used(self):
        """Version v1 from 1.37 on, v1beta1 before."""
        both = ApiDouble(served={CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLES_V1BETA1})
        beta = ApiDouble(served={CLUSTER_TRUST_BUNDLES_V1BETA1})
        assert (await find_publisher(both)).resource == CLUSTER_TRUST_BUNDLES
        assert (await find_publisher(beta)).resource == CLUSTER_TRUST_BUNDLES_V1BETA1

    async def test_without_the_api_a_zone_has_a_config_map(self):
        """Partners' bundles are in the Secrets of the pods that may see them, and nowhere else."""
        api = ApiDouble(served=set())
        publisher = await find_publisher(api)
        assert isinstance(publisher, ConfigMapPublisher)
        assert await publish(publisher, of_zone(ZONE, CA.bundle))
        assert not await publish(publisher, of_zone(ZONE, CA.bundle))
        assert not await publish(publisher, of_partner(PARTNER, PARTNER_CA.bundle))
        body = api.find(CONFIG_MAPS, "kubetls-trust-default", "kubetls-system")
        assert body["data"] == {"example.org.trust-bundle.pem": CA.bundle.to_pem().decode()}
        found = await publisher.read(BUNDLE, "kubetls-trust-default")
        assert len(found.anchors(DOMAIN)) == 1
