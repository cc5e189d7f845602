# SPDX-License-Identifier: Apache-2.0
"""An API server in memory with the published bundles of two zones, and a partner's."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta

from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.federation.bundle_document import parse_document
from kubetls_sdk.spiffe_id import TrustDomain
from kubetls_sdk.testing import DevelopmentCA
from tests.webhook.api_double import ApiDouble
from webhook.api.resources import CLUSTER_TRUST_BUNDLES
from webhook.config import PlatformConfig
from webhook.endpoint.published_zones import PublishedZones
from webhook.names import PARTNER_SIGNER_NAME, bundle_name, partner_bundle_name

PARTNER = DevelopmentCA("partner.example")
PLATFORM = f"""\
version: 1
zones:
  - {{name: default, trustDomain: example.org}}
  - {{name: other, trustDomain: other.example, propagation: 50s}}
partners:
  - name: acme
    trustDomain: partner.example
    namespaces: ["*"]
    bundle: |
      {PARTNER.bundle.to_pem().decode().replace(chr(10), chr(10) + "      ")}
namespaces:
  - {{names: ["*"], zones: [default]}}
"""
CONFIG = PlatformConfig.parse(PLATFORM)
ZONE, OTHER = CONFIG.zones["default"], CONFIG.zones["other"]
PATH, OTHER_PATH = "/bundles/example.org", "/bundles/other.example"


def document(answer, domain="example.org"):
    """The bundle in an answer, as a partner reads it."""
    assert answer.status == 200, answer
    return parse_document(TrustDomain.parse(domain), answer.body).bundle


class EndpointWorld:
    """The API server and the zones' authorities.

    Attributes:
        resource: The version of ClusterTrustBundles in use.
    """

    def __init__(self):
        self.api = ApiDouble()
        self.resource = CLUSTER_TRUST_BUNDLES
        self.ca = DevelopmentCA("example.org")
        self.other = DevelopmentCA("other.example")
        self.publish()
        self.publish(OTHER, self.other.bundle)
        self.put(partner_bundle_name("acme"), PARTNER_SIGNER_NAME, PARTNER.bundle)

    def publish(self, zone=ZONE, bundle=None, **more):
        """Publish as the signer's leader does; returns the object's version."""
        bundle = self.ca.bundle if bundle is None else bundle
        name = bundle_name(zone.signer_name, zone.trust_domain)
        return self.put(name, zone.signer_name, bundle, **more)

    def put(self, name, signer, bundle, *, labels=None):
        """Store a ClusterTrustBundle; the text may be anything."""
        text = bundle.to_pem().decode() if isinstance(bundle, TrustBundle) else bundle
        body = {
            "metadata": {"name": name, "labels": labels or {}},
            "spec": {"signerName": signer, "trustBundle": text},
        }
        return int(self.api.put(self.resource, body)["metadata"]["resourceVersion"])

    def withdraw(self):
        """Delete the bundle of `default`."""
        self.api.remove(self.resource, bundle_name(ZONE.signer_name, ZONE.trust_domain))

    @asynccontextmanager
    async def published(self, *, config=CONFIG, max_stale=timedelta(hours=1), **options):
        """What one replica publishes, once it has seen everything."""
        zones = PublishedZones(self.api, self.resource, max_stale=max_stale, **options)
        async with zones:
            await zones.follow_zones(config.zones.values())
            await zones.synced()
            yield zones
